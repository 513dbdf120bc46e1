"""Settings at random: whatever is written in a sweep file or typed, planning ends with a plan or a `UserError`.

FGSSL_FUZZ_INPUTS=10000 tries as many inputs, over all tests, instead of the few of the quick tests.
"""

import contextlib
import functools
import io
import os
import shutil
import unicodedata
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, example, given, note, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from fgssl.__main__ import invoke
from fgssl.errors import SettingsError, UserError
from fgssl.settings.config import load
from fgssl.settings.layers import read_yaml, to_yaml
from hpc.cluster.site.job_settings import JobSettings, read_jobs
from hpc.cluster.site.profile_files import load_profile
from hpc.cluster.site.requests import request
from hpc.sweeps.grid import expand
from hpc.sweeps.sweep_file import preset_names

SWEEPS = Path(__file__).parents[3] / "sweeps"
FILES = sorted(SWEEPS.glob("*.yaml"))
PROFILE = load_profile(Path("generic"))
PRESETS = {file: preset_names(file) for file in FILES}
FREE = ("match", "levels", "nuisances")
"""Keys of mappings in which any key may stand, and whose values decide."""
WORDS = [
    *("null", "~", "true", "on", "0", "-1", "007", "1e400", "-.inf", ".nan", "1_000", "0x", "2026-01-31", "=", "<<"),
    *("''", '"\\ud800"', "[]", "{}", "[[]]", "{a}", "{a:1}", "{a: 1, a: 2}", "&x", "*x", "*mocov2", "!!set {a}"),
    *("!!int x", "!x", "#", "- a", "? a", ": ", "%YAML 1.1", "---", "...", "|", ">", "@", "`", "\t", "\x00", "\ufeff"),
    *("é", "e\u0301", "\U0001f600", "\u2028", "9" * 5000, "a" * 300, "../..", "/", "a/b", "mocov2", "resnet18", "toy"),
    *("1.0", "[0, 1]", "[0, 0]", "[a, 1]", "{name: x}", "{name: mocov2}", "{name: [1]}", "{stage: s}", "{file: x}"),
]
ANY_WORD = st.sampled_from(WORDS) | st.text(max_size=6) | st.integers().map(str) | st.floats().map(repr)
few = settings(
    max_examples=int(os.environ.get("FGSSL_FUZZ_INPUTS", "280")) // 7,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped sweeps, in which one file at a time is written anew."""
    return shutil.copytree(SWEEPS, tmp_path_factory.mktemp("fuzz") / "sweeps")


def _dry_run(file: Path, *arguments: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), contextlib.suppress(UserError):
        invoke(["sweep", str(file), "--dry-run", f"--out={file.parent / 'out'}", *arguments])
        event("planned")  # --hypothesis-show-statistics counts them


@contextlib.contextmanager
def _written(folder: Path, name: str, text: str) -> Iterator[Path]:
    """Yield the file `name` of the folder with another text."""
    note(text)
    file = folder / name
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        yield file
    finally:
        shutil.copyfile(SWEEPS / name, file)


def _mappings(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], MappingNode]]:
    """Yield the path and the node of each mapping that has a key."""
    if isinstance(node, MappingNode):
        if node.value:
            yield path, node
        for key, value in node.value:
            if key.value != "<<":
                yield from _mappings(value, (*path, key.value))
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _mappings(item, (*path, str(index)))


def _with_key(text: str, mapping: MappingNode, key: str, before: ScalarNode) -> str:
    """Return the text with `key: 1` in a mapping, before another of its keys."""
    at = before.start_mark.index
    rest = ", " if mapping.flow_style else "\n" + " " * before.start_mark.column
    return f"{text[:at]}{key}: 1{rest}{text[at:]}"


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """Draw a text that differs from the given one in a few places."""
    for _ in range(draw(st.integers(1, 4))):
        lines = text.splitlines(keepends=True) or [""]
        at = draw(st.integers(0, len(lines) - 1))
        start = draw(st.integers(0, max(len(text) - 1, 0)))
        match draw(st.sampled_from(["again", "away", "deeper", "cut", "word", "value", "swap", "elsewhere"])):
            case "again":
                lines.insert(draw(st.integers(0, len(lines))), lines[at])
            case "away":
                del lines[at]
            case "deeper":
                lines[at] = " " * draw(st.integers(1, 4)) + lines[at]
            case "cut":
                lines = [text[:start]]
            case "word":
                lines = [text[:start], draw(ANY_WORD), text[start + draw(st.integers(0, 3)) :]]
            case "value":
                lines[at] = f"{lines[at].partition(':')[0]}: {draw(ANY_WORD)}\n"
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[at], lines[other] = lines[other], lines[at]
            case "elsewhere":  # a value from another line
                other = draw(st.integers(0, len(lines) - 1))
                lines[at] = lines[at].partition(":")[0] + ":" + lines[other].partition(":")[2]
        text = "".join(lines)
    return text


# ---------------------------------------------------------------------------------------------- files


@few
@given(st.data(), st.sampled_from(FILES), st.booleans())
def test_a_mutated_sweep_or_preset(folder: Path, data: st.DataObject, file: Path, of_preset: bool) -> None:
    preset = data.draw(st.sampled_from(PRESETS[file]))
    name = f"presets/{data.draw(st.sampled_from(sorted(path.name for path in SWEEPS.glob('presets/*'))))}"
    name = name if of_preset else file.name
    text = data.draw(mutated((SWEEPS / name).read_text(encoding="utf-8")))
    with _written(folder, name, text):
        _dry_run(folder / file.name, f"--preset={preset}")
        with contextlib.suppress(UserError):
            load(folder / name)


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS)
_KEYS = st.sampled_from(
    [
        "name",
        "seeds",
        "settings",
        "arms",
        "stages",
        "grid",
        "method",
        "encoder",
        "arguments",
        "jobs",
        "presets",
        "preset",
    ]
) | st.text(max_size=4)
_TREES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4))


@few
@given(st.text() | st.lists(st.sampled_from([*WORDS, "\n", "\n  ", ": ", ", "])).map("".join) | _TREES)
@example("a: &a {<<: *a}")
@example("[" * 400)
@example("- " * 2000)
def test_any_text_and_any_values(folder: Path, content: Any) -> None:
    text = content
    if not isinstance(content, str):
        stream = io.StringIO()
        YAML(typ="safe", pure=True).dump(
            {"name": "x", "arms": {"a": {}}} | content if isinstance(content, dict) else content, stream
        )
        text = stream.getvalue()
    with _written(folder, "smoke.yaml", text) as file:
        _dry_run(file)


@few
@given(st.data(), st.sampled_from(FILES), st.sampled_from(["unknown", "twice"]))
def test_a_key_that_is_unknown_or_twice_is_refused(folder: Path, data: st.DataObject, file: Path, what: str) -> None:
    text = file.read_text(encoding="utf-8")
    path, mapping = data.draw(st.sampled_from(list(_mappings(YAML(typ="safe", pure=True).compose(text)))))
    before = data.draw(st.sampled_from([key for key, _ in mapping.value]))
    assume(what == "twice" or not {*FREE}.intersection(path))
    key = before.value if what == "twice" else "zzz"
    preset = path[1] if path[:1] == ("presets",) and len(path) > 1 else data.draw(st.sampled_from(PRESETS[file]))
    refused = pytest.raises(SettingsError, match="is given twice" if what == "twice" else "zzz")
    with _written(folder, file.name, _with_key(text, mapping, key, before)) as changed, refused:
        expand(changed, preset)


@few
@given(st.dictionaries(st.text(max_size=6).map(partial(unicodedata.normalize, "NFC")), _TREES | st.sampled_from(WORDS)))
def test_values_survive_their_file(folder: Path, content: dict[str, Any]) -> None:
    with contextlib.suppress(UnicodeEncodeError):  # half of a surrogate pair, which no file can hold
        text = to_yaml(content).encode().decode()
        with _written(folder, "smoke.yaml", text) as file:
            assert repr(_plain(read_yaml(file))) == repr(_plain(content))


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {unicodedata.normalize("NFC", key): _plain(value) for key, value in content.items()}
    return [_plain(item) for item in content] if isinstance(content, list) else content


_OPTIONS = st.dictionaries(
    st.sampled_from(["constraint", "mail-user", "job-nam", "p", "zzz"]) | st.text(max_size=4), _LEAVES
)
_BLOCKS = st.dictionaries(
    st.sampled_from(["options", "zzz", *(entry.name for entry in fields(JobSettings))]),
    _LEAVES | st.integers(1, 4) | _OPTIONS | _TREES,
)


@few
@given(st.dictionaries(st.sampled_from(["default", "a", "b"]), _BLOCKS | _LEAVES) | _TREES)
def test_any_jobs(blocks: Any) -> None:
    with contextlib.suppress(UserError):
        job, origin = read_jobs(blocks, "sweep.yaml", ["a"])["a"]
        unknown = [name for name in ("default", "a") if isinstance(blocks.get(name), dict) and "zzz" in blocks[name]]
        assert sum("unknown key 'zzz'" in fault.message for fault in origin.faults) == len(unknown)
        with pytest.raises(UserError) if origin.faults else contextlib.nullcontext():
            request(job, PROFILE, True, "job", origin)


# --------------------------------------------------------------------------------------- command line


@functools.cache
def _keys(file: Path, preset: str) -> list[str]:
    """Return the dotted keys of the sweep's settings, and of its own parts."""
    grid = expand(file, preset)
    return [*(f"settings.{key}" for key in grid.settings.settings.leaves()), *grid.settings.settings.leaves(), "seeds"]


_EACH = st.sampled_from([(file, preset) for file in FILES for preset in PRESETS[file]])


@few
@given(st.data(), _EACH)
def test_any_override(folder: Path, data: st.DataObject, of: tuple[Path, str]) -> None:
    known = st.sampled_from([*_keys(*of), "title", "arms.mocov2", "jobs.default.options", "encoder.arguments", "a", ""])
    plain = st.sampled_from(["0", "1", "2", "0.5", "64", "true", "null", "[0, 1]", "{}", "x"])
    texts = st.tuples(known, ANY_WORD | plain).map("=".join) | known | st.text(max_size=8)
    usual = st.tuples(st.sampled_from(_keys(*of)), plain).map("=".join)
    overrides = data.draw(st.lists(texts, max_size=3) | st.lists(usual, max_size=2))
    note(repr(overrides))
    _dry_run(folder / of[0].name, f"--preset={of[1]}", "--", *overrides)


@few
@given(st.data(), _EACH)
def test_a_mistyped_override_is_refused(folder: Path, data: st.DataObject, of: tuple[Path, str]) -> None:
    key = data.draw(st.sampled_from(_keys(*of)))
    assume(not {*FREE}.intersection(key.split(".")))
    at = data.draw(st.integers(1, len(key)))
    with pytest.raises(SettingsError, match=r"^command line: "):
        expand(
            folder / of[0].name,
            of[1],
            [f"{key[:at]}zz{key[at:]}={data.draw(st.sampled_from(['1', '{}', 'null', 'x']))}"],
        )
