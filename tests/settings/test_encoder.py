"""Names of the arguments of a network, which planning checks without torch."""

from pathlib import Path
from typing import Any

import pytest

from fgssl.errors import SettingsError
from fgssl.settings import encoder
from fgssl.settings.config import load, parse
from fgssl.settings.encoder import EncoderSettings
from tests.settings.pin_model_arguments import FILE, text

TEXT = "encoder:\n  name: resnet18.a1_in1k\n  arguments:\n    layers: [1, 1, 1, 1]\n    drop_path_ratee: 0.1\n"


def _problem(name: str, arguments: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        parse({"encoder": {"name": name, "arguments": arguments}}, "file")
    [problem] = caught.value.problems
    return str(problem)


def test_a_mistyped_argument_is_found_in_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TEXT)
    with pytest.raises(SettingsError) as caught:
        load(file, ["encoder.arguments.chanels=[8, 8, 8, 8]"])
    here, there = caught.value.problems
    assert str(here).startswith(
        f"{file}:5: encoder.arguments.drop_path_ratee: unknown argument of resnet18 'drop_path_ratee': did you mean "
        "'drop_path_rate'? allowed: aa_layer, act_layer, "
    )
    assert str(there).startswith("command line: encoder.arguments.chanels: unknown argument of resnet18 'chanels'")


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet34"])
@pytest.mark.parametrize("argument", ["pretrained", "checkpoint_path", "cache_dir", "pretrained_cfg", "num_classes"])
def test_arguments_that_load_weights_past_start_or_add_a_classifier(name: str, argument: str) -> None:
    assert _problem(name, {argument: "w.pth"}) == (
        f"file: encoder.arguments.{argument}: is not supported: give arguments of the network only; weights come from "
        "start.encoder.file"
    )


@pytest.mark.parametrize("argument", ["channels:8", "", "a b", "é-"])
def test_a_key_that_is_no_name(argument: str) -> None:
    assert "is not allowed: give the name of an argument of resnet34" in _problem("resnet34", {argument: None})


def test_a_null_that_nobody_wrote(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("encoder: {name: resnet34, arguments: {channels:8, layers}}\n")
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert [str(problem).replace(str(file), "FILE") for problem in caught.value.problems] == [
        "FILE:1: encoder.arguments.channels:8: has no value: put a space after the colon, `channels: 8`",
        "FILE:1: encoder.arguments.layers: has no value: give one, `layers: VALUE`; null must be written",
    ]


def test_a_null_takes_back_an_argument_and_models_outside_the_table_are_left_to_the_job() -> None:
    EncoderSettings(name="resnet18", arguments={"stem_type": None, "layers": [1, 1, 1, 1]})
    EncoderSettings(name="resnet34", arguments={"chanels": 8})


def test_another_version_of_timm_is_left_to_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_timm", lambda: "1.0.99")
    EncoderSettings(name="resnet18", arguments={"new_in_timm": 8})


def test_the_table_is_that_of_the_installed_timm() -> None:
    assert FILE.read_text() == text(), "run python -m tests.settings.pin_model_arguments"
