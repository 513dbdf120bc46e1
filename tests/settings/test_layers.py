"""Parsing of YAML 1.2 and the command line, with the place of each key."""

import re
from pathlib import Path

import pytest

from fgssl.errors import COMMAND_LINE, SettingsError
from fgssl.settings.config import CHOICES, load
from fgssl.settings.layers import Layer, Place, locate, nested, parse_overrides, read_yaml, to_yaml

TEXT = """\
# a comment
training:
  epochs: 3
  optimizer: {name: sgd,
    momentum: 0.5}
views:
  - {size: 96}
  - size: 32
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def _read(file: Path, text: str) -> Layer:
    file.write_text(text)
    return read_yaml(file)


def _messages(file: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _read(file, text)
    return [str(problem).replace(str(file), "FILE") for problem in caught.value.problems]


# ------------------------------------------------------------------------------------------------ YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("true", True), ("null", None), ("~", None)],
        *[("1e-3", 0.001), ("5E-2", 0.05), (".5", 0.5), (".inf", float("inf")), ("1e5", 100000.0)],
        *[("007", 7), ("010", 10), ("09", 9), ("0o10", 8), ("0x1F", 31), ("4:00:00", "4:00:00"), ("1:30", "1:30")],
        *[("2026-01-31", "2026-01-31"), ("2026-13-45", "2026-13-45"), ("1_000", "1_000"), ("1_0.5", "1_0.5")],
        *[("=", "="), ("0b11", "0b11"), ("-0x1F", "-0x1F"), ("1.", 1.0), ("+3", 3), ("-.INF", -float("inf"))],
    ],
)
@pytest.mark.parametrize("directive", ["", "%YAML 1.1\n---\n"])
def test_plain_values_are_those_of_yaml_1_2(file, text, value, directive):
    read = _read(file, f"{directive}{text}: {text}")
    assert list(read.items()) == [(text, value)]
    assert list(map(type, read.values())) == [type(value)]
    assert parse_overrides([f"key={text}"]) == {"key": value}


def test_seeds_with_leading_zeros_are_decimal(file):
    assert _read(file, "seeds: [007, 010]")["seeds"] == [7, 10]


def test_keys_are_text(file):
    """An arm may be named `true` or `null`, and its name may be quoted or not, with accents composed or not."""
    assert list(_read(file, "true: 1\nnull: 2\n007: 3\n'x': 4\ne\u0301: 5\n")) == ["true", "null", "007", "x", "\u00e9"]


def test_anchors_and_merge_keys(file):
    read = _read(file, "a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a}\nc: *a\nd:\n  <<: [{x: 5}, *a]\n  z: 6\n")
    assert read == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}, "d": {"x": 5, "y": 2, "z": 6}}


def test_all_keys_that_are_given_twice_with_both_lines(file):
    assert _messages(file, "a: 1\nb:\n  x: 1\n  y: 2\n  x: 3\nc: [{z: 1, z: 2}]\na: 2\n") == [
        "FILE:5: b.x: this key is given twice (first in line 3): keep one of them",
        "FILE:6: c.0.z: this key is given twice (first in line 6): keep one of them",
        "FILE:7: a: this key is given twice (first in line 1): keep one of them",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "true: 1\n'true': 2\n",
        "\u00e9: 1\ne\u0301: 2\n",
        "x: &x {a: 1}\nd: {<<: *x,\n  <<: {a: 2}}\n",
        "a: 1\n!!str a: 2\n",
    ],
)
def test_a_key_twice_in_two_spellings(file, text):
    [message] = _messages(file, text)
    assert re.fullmatch(r"FILE:(2|3): .*: this key is given twice \(first in line (1|2)\): keep one of them", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{channels:8, x: 1}", "channels:8: has no value: put a space after the colon, `channels: 8`"),
        ("a: {layers}", "a.layers: has no value: give one, `layers: VALUE`; null must be written"),
        ("a: {b: , c: 1}", "a.b: has no value: give one, `b: VALUE`; null must be written"),
        ("a: {'b:c'}", "a.b:c: has no value: give one, `b:c: VALUE`; null must be written"),
    ],
)
def test_a_key_without_a_value_in_braces_is_a_slip(file, text, message):
    assert _messages(file, text) == [f"FILE:1: {message}"]
    if text.startswith("a: "):
        with pytest.raises(SettingsError, match=f"^command line: {re.escape(message)}$"):
            parse_overrides([f"a={text[3:]}"])


def test_a_null_that_is_written_and_a_key_in_quotes_stay(file):
    read = _read(file, "a: {b: null, c: ~, 'd:e': 1, f: ''}\ng:\nh: {\"i\":1}\n")
    assert read == {"a": {"b": None, "c": None, "d:e": 1, "f": ""}, "g": None, "h": {"i": 1}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: [1\n", "FILE:3: cannot be read as YAML: "),
        ("a: 1\nb: c: d\n", "FILE:2: cannot be read as YAML: mapping values are not allowed"),
        ("a: &a [*a]\n", "FILE: cannot be read as YAML: it is nested too deeply, or holds itself"),
        ("a: " + "[" * 500, "FILE: cannot be read as YAML: it is nested too deeply, or holds itself"),
        ("a: 1\n--- \nb: 2\n", "FILE:2: cannot be read as YAML: expected a single document"),
        (
            "a: &x 1\nb: *x\nc: [\n  &x 2]\n",
            "FILE: cannot be read as YAML: the anchor &x is given twice, in line 1 and in line 4",
        ),
        ("a: !!int 0o9\n", "FILE: cannot be read as YAML: invalid literal for int()"),
        ("b: {[a]: 1}\n", "FILE:1: b: a key must be a name, not a list or a mapping"),
        ("<<: 1\n", "FILE: cannot be read as YAML: `<<` takes a mapping"),
        ("<<: [{a: 1}, 2]\n", "FILE: cannot be read as YAML: `<<` takes a mapping"),
        (
            "a: !!python/object:os.system {}\n",
            "FILE:1: cannot be read as YAML: the tag !!python/object:os.system is not",
        ),
        ("a: 1\nb: !!set {x, y}\n", "FILE:2: cannot be read as YAML: the tag !!set is not allowed: leave it out"),
        ("b: !mine [x]\n", "FILE:1: cannot be read as YAML: the tag !mine is not allowed: leave it out"),
        ("!!binary aGk=: 1\n", "FILE:1: cannot be read as YAML: the tag !!binary is not allowed: leave it out"),
        ("- a\n", "FILE: must hold `key: value` pairs, not a list"),
        ("a: 1\nx: !!bool foo\n", "FILE:2: cannot be read as YAML: 'foo' does not fit the tag !!bool before it"),
        ("!!bool foo: 1\n", "FILE:1: cannot be read as YAML: 'foo' does not fit the tag !!bool before it"),
        ("x: !!timestamp 2026-01-31\n", "FILE:1: cannot be read as YAML: the tag !!timestamp is not allowed"),
        ("a: \udcff\n", "FILE: cannot be read as YAML: "),
    ],
)
def test_a_file_that_holds_no_mapping(file, text, words):
    file.write_text(text, errors="surrogateescape")
    with pytest.raises(SettingsError) as caught:
        read_yaml(file)
    assert str(caught.value).replace(str(file), "FILE").startswith(words)


@pytest.mark.parametrize("text", ["", "# nothing\n", "null\n", "---\n"])
def test_an_empty_file_is_an_empty_mapping(file, text):
    assert _read(file, text) == {}


def test_what_is_written_is_read_again(file):
    words = ["1e5", "010", "on", "null", "4:00:00", "a #b", "x: y", "", " ", "é", "2026-01-31", "[", "~", "- a", "1_0"]
    values = {"words": words, "floats": [1e-5, float("inf"), 1e22, 0.1], "deep": [{"a": {}}, []], "flag": True, "no": 1}
    assert _read(file, to_yaml(values)) == values
    assert to_yaml(read_yaml(file)) == to_yaml(values)


# ------------------------------------------------------------------------------------------------ places


@pytest.mark.parametrize(
    ("key", "line"),
    [
        *[("training", 2), ("training.epochs", 3), ("training.optimizer", 4), ("training.optimizer.momentum", 5)],
        *[("views", 6), ("views.0", 7), ("views.0.size", 7), ("views.1", 8), ("views.1.size", 8)],
        *[("training.optimizer.nesterov", 4), ("views.1.area.low", 8), ("views.2", 6), ("encoder.name", None)],
    ],
)
def test_the_line_of_every_key_or_of_its_nearest_parent(file, key, line):
    assert locate(_read(file, TEXT), key.split("."), Place("top")) == Place(str(file) if line else "top", key, line)


def test_a_merged_key_is_where_the_layer_that_won_wrote_it(tmp_path):
    below = _read(tmp_path / "below.yaml", "a: {x: 1, y: 2}\nb: {name: sgd, momentum: 0.5}\nc: [1, 2, 3]\n")
    above = _read(tmp_path / "above.yaml", "\na:\n  y: 3\nb: {name: adam}\nc: [4]\n")
    merged = Layer(below).merge(above, {("b",)})
    assert merged == {"a": {"x": 1, "y": 3}, "b": {"name": "adam"}, "c": [4]}

    def place(key: str) -> tuple[str, int | None]:
        found = locate(merged, key.split("."), Place("top"))
        assert found.key == key
        return Path(found.source).name, found.line

    assert place("a.x") == ("below.yaml", 1)
    assert place("a.y") == ("above.yaml", 3)
    assert place("b.momentum") == ("above.yaml", 4)  # nobody's any more: of the mapping it would lie in
    assert place("c.0") == ("above.yaml", 5)


def test_a_key_of_the_command_line_is_shown_as_typed():
    place = Place(COMMAND_LINE, "training.epochs")
    layer = nested(["settings", "training", "epochs"], 3, place)
    assert layer == {"settings": {"training": {"epochs": 3}}}
    assert locate(layer, ["settings", "training", "epochs"], Place("top")) == place
    assert locate(layer, ["settings", "training", "schedule"], Place("top")) == Place(COMMAND_LINE, "training.schedule")


def test_errors_name_the_line_of_the_file_or_the_command_line(file):
    file.write_text(TEXT.partition("views")[0] + "views: {hue: x}\nseed: -1\n")
    with pytest.raises(SettingsError) as caught:
        load(file, ["training.epochs=0", "encoder={stem: big}"])
    assert [str(problem).replace(str(file), "FILE").partition(" is not")[0] for problem in caught.value.problems] == [
        "FILE:7: seed: -1",
        "FILE:6: views.hue: 'x'",
        "command line: encoder.stem: 'big'",
        "command line: training.epochs: 0",
    ]


# ------------------------------------------------------------------------------------------ command line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("/x/shards #2", "/x/shards #2"), ("Table #3: rates", "Table #3: rates"), ("#3", "#3"), ("a: b", "a: b")],
        *[("- a", "- a"), ("*.jpg", "*.jpg"), ("@x", "@x"), ("a, b", "a, b"), ("null", None), (" 3 ", 3), ("%d", "%d")],
        *[("'#3'", "#3"), ('"2e5"', "2e5"), ("[1, a #2]", None), ("!!str 3", "3"), ("---", "---")],
    ],
)
def test_a_plain_value_is_taken_whole(text, value):
    if text.startswith("[1"):
        with pytest.raises(SettingsError, match=r"^command line: key: '\[1, a #2\]': cannot be read as YAML: "):
            parse_overrides([f"key={text}"])
    else:
        assert parse_overrides([f"key={text}"]) == {"key": value}


def test_a_key_twice_in_a_value(file):
    with pytest.raises(SettingsError, match=r"^command line: a\.x: this key is given twice: keep one of them$"):
        parse_overrides(["a={x: 1, x: 2}"])


@pytest.mark.parametrize("again", ["a.b=1", "a.b=", "a.b=["])
def test_the_same_override_twice(again):
    with pytest.raises(SettingsError, match=r"^command line: a\.b: this key is given twice: keep one of them"):
        parse_overrides(["a.b=2", again])


@pytest.mark.parametrize("text", ["", " "])
def test_an_override_without_a_value_is_often_an_unset_variable(text):
    with pytest.raises(SettingsError, match=r"^command line: a: has no value: give one, or null to empty it$"):
        parse_overrides([f"a={text}", "b=1"])


def test_another_choice_on_the_command_line_drops_and_tells(file, capsys):
    file.write_text("training: {optimizer: {name: sgd, momentum: 0.5}}\n")
    assert load(file, ["training.optimizer.name=adam"]).training.optimizer.name == "adam"
    assert capsys.readouterr().err == (
        "WARNING: command line: another training.optimizer.name drops these settings: training.optimizer.momentum\n"
    )
    assert ("training", "optimizer") in CHOICES
