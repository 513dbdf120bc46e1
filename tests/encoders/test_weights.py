"""Weights files: exports are plain timm checkpoints, and imports report what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

import fgssl
from fgssl.encoders.build import build_encoder
from fgssl.encoders.weights import encoder_card, load_weights, read_weights, weights_bytes
from fgssl.errors import CheckpointError
from fgssl.settings.encoder import EncoderSettings

SMALL = EncoderSettings(name="resnet18", arguments={"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})


def trained(settings: EncoderSettings) -> nn.Module:
    """Return an encoder with random weights and running statistics that differ from the initial ones."""
    encoder = build_encoder(settings, 32).to(memory_format=torch.channels_last)
    encoder.train()(torch.randn(32, 3, 32, 32))
    return encoder.eval()


@pytest.mark.parametrize("stem", ["standard", "small_image"])
def test_the_export_loads_as_its_card_says_and_gives_the_same_features(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EncoderSettings(name="resnet18", arguments=SMALL.arguments, stem=stem)  # type: ignore[arg-type]
    encoder = trained(settings)
    (tmp_path / "encoder.safetensors").write_bytes(weights_bytes(encoder))
    monkeypatch.chdir(tmp_path)
    call = json.loads(encoder_card(settings))["load"]
    names = {"timm": timm, "fgssl": fgssl, "safetensors": safetensors}
    if stem == "standard":
        loaded = eval(call, names)
    else:
        exec(call, names)
        loaded = names["model"]
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(loaded.eval()(images), encoder(images))
    assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}),
        (
            "swin_tiny_patch4_window7_224",
            {
                "img_size": 32,
                "patch_size": 2,
                "window_size": 4,
                "embed_dim": 12,
                "depths": [1, 2],
                "num_heads": [2, 4],
                "drop_path_rate": 0,
            },
        ),
    ],
)
def test_the_export_of_a_transformer_loads_in_timm(
    name: str, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EncoderSettings(name=name, arguments=arguments, frozen=("patch_embed",))
    encoder = build_encoder(settings, 32).to(memory_format=torch.channels_last).eval()
    assert not any("head" in key for key in encoder.state_dict())
    (tmp_path / "encoder.safetensors").write_bytes(weights_bytes(encoder))
    monkeypatch.chdir(tmp_path)
    card = json.loads(encoder_card(settings))
    images = torch.randn(4, 3, 32, 32)
    for loaded in (
        eval(card["load"], {"timm": timm}),
        timm.create_model(
            card["timm_model"], num_classes=0, checkpoint_path="encoder.safetensors", **card["arguments"]
        ),
    ):
        assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in loaded.state_dict().items())
        torch.testing.assert_close(loaded.eval()(images), encoder(images))


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
def test_torch_files_are_read_plain_or_wrapped(wrapped: str | None, tmp_path: Path) -> None:
    encoder, other = trained(SMALL), build_encoder(SMALL, 32)
    state = encoder.state_dict()
    torch.save(state if wrapped is None else {wrapped: state, "epoch": 3}, tmp_path / "weights.pth")
    load_weights(other, tmp_path / "weights.pth")
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())


def test_torchvisions_resnet50_fits_and_its_classifier_is_left_aside(tmp_path: Path) -> None:
    state = torchvision.models.resnet50(weights=None).state_dict()
    assert "fc.weight" in state
    torch.save(state, tmp_path / "resnet50.pth")
    encoder = build_encoder(EncoderSettings(name="resnet50"), 32)
    load_weights(encoder, tmp_path / "resnet50.pth")
    found = encoder.state_dict()
    assert found.keys() == {key for key in state if not key.startswith("fc.")}
    assert all(torch.equal(value, state[key]) for key, value in found.items())


@pytest.mark.parametrize(
    ("name", "arguments", "classifier"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32, "depth": 1}, ("head.",)),
        ("deit_tiny_distilled_patch16_224", {"img_size": 32, "depth": 1}, ("head.", "head_dist.")),
        ("convnext_atto", {"dims": [8, 8, 8, 8]}, ("head.fc.",)),  # head.norm is part of the encoder
    ],
)
def test_the_classifier_that_timm_names_is_left_aside(
    name: str, arguments: dict[str, Any], classifier: tuple[str, ...], tmp_path: Path
) -> None:
    whole = timm.create_model(name, num_classes=5, **arguments).state_dict()
    assert all(f"{prefix}weight" in whole for prefix in classifier)
    torch.save(whole, tmp_path / "whole.pth")
    encoder = build_encoder(EncoderSettings(name=name, arguments=arguments), 32)
    load_weights(encoder, tmp_path / "whole.pth")
    found = encoder.state_dict()
    assert found.keys() == {key for key in whole if not key.startswith(classifier)}
    assert all(torch.equal(value, whole[key]) for key, value in found.items())


def test_another_models_classifier_is_a_mismatch(tmp_path: Path) -> None:
    state = build_encoder(SMALL, 32).state_dict() | {"head.weight": torch.zeros(5, 16)}
    torch.save(dict(state), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"another architecture:\n  unexpected head\.weight$"):
        load_weights(build_encoder(SMALL, 32), tmp_path / "other.pth")


def test_the_prefix_of_data_parallel_is_left_aside(tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in trained(SMALL).state_dict().items()}
    state["module.fc.weight"] = torch.zeros(5, 16)
    torch.save({"state_dict": state}, tmp_path / "parallel.pth")
    encoder = build_encoder(SMALL, 32)
    load_weights(encoder, tmp_path / "parallel.pth")
    assert all(torch.equal(value, state[f"module.{key}"]) for key, value in encoder.state_dict().items())


def test_a_prefix_of_some_keys_only_is_a_mismatch(tmp_path: Path) -> None:
    encoder = build_encoder(SMALL, 32)
    state = dict(encoder.state_dict())
    state["module.bn1.weight"] = state.pop("bn1.weight")
    torch.save(state, tmp_path / "mixed.pth")
    with pytest.raises(CheckpointError, match=r"missing bn1\.weight \(64,\)\n  unexpected module\.bn1\.weight$"):
        load_weights(encoder, tmp_path / "mixed.pth")


def test_older_files_without_the_count_of_batches_fit(tmp_path: Path) -> None:
    state = {key: value for key, value in trained(SMALL).state_dict().items() if "num_batches" not in key}
    torch.save(dict(state), tmp_path / "old.pth")
    encoder = build_encoder(SMALL, 32)
    load_weights(encoder, tmp_path / "old.pth")
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in state.items())


def test_every_mismatch_is_named(tmp_path: Path) -> None:
    encoder = build_encoder(SMALL, 32)
    state = dict(encoder.state_dict())
    before = {key: value.clone() for key, value in state.items()}
    del state["bn1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as caught:
        load_weights(encoder, tmp_path / "other.pth")
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'other.pth'}: weights of another architecture:",
        "  missing bn1.weight (64,)",
        "  unexpected layer9.weight",
        "  conv1.weight has shape (64, 1, 7, 7), wanted (64, 3, 7, 7)",
    ]
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("faults", [40, 41, 67])
def test_a_long_list_of_mismatches_is_cut(faults: int, tmp_path: Path) -> None:
    module = nn.Linear(1, 1)
    unexpected = {f"layer{number}": torch.zeros(1) for number in range(faults)}
    torch.save(module.state_dict() | unexpected, tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as caught:
        load_weights(module, tmp_path / "other.pth")
    heading, *lines = str(caught.value).splitlines()
    assert heading.endswith("weights of another architecture:")
    assert lines[:40] == [f"  unexpected layer{number}" for number in range(40)]
    assert lines[40:] == ([] if faults == 40 else [f"  and {faults - 40} more"])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth: no such weights file"):
        read_weights(tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["garbage.safetensors", "garbage.pth"])
@pytest.mark.parametrize("content", [b"", b"these are not weights"])
def test_a_file_of_something_else(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: not a readable weights file: "):
        read_weights(tmp_path / name)


def test_a_file_cut_short(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(weights_bytes(build_encoder(SMALL, 32))[:-100])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: not a readable weights file"):
        read_weights(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(1)], torch.zeros(2)])
def test_a_torch_file_without_a_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "else.pth")
    with pytest.raises(CheckpointError, match=r"else\.pth: holds no state dict of tensors"):
        read_weights(tmp_path / "else.pth")


def test_a_pickle_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    state: dict[str, Tensor | Malicious] = {"weight": Malicious()}
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        read_weights(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()


RAN: list[str] = []


class Recording:
    """Object whose pickle calls `RAN.append` through a function of this module, and whose state a method restores."""

    def __reduce__(self) -> tuple[object, tuple[str], dict[str, int]]:
        return recorded, ("made",), {"some": 1}

    def __setstate__(self, state: object) -> None:
        RAN.append("restored")


def recorded(word: str) -> Recording:
    RAN.append(word)
    return Recording()


def test_objects_beside_the_tensors_are_ignored_and_their_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": nn.Linear(2, 3).state_dict(), "hook": Recording()}, tmp_path / "hook.pth")
    assert read_weights(tmp_path / "hook.pth").keys() == {"state_dict.weight", "state_dict.bias"}
    assert RAN == []
    torch.load(tmp_path / "hook.pth", weights_only=False)
    assert RAN == ["made", "restored"]  # so the file would have run them


def test_a_whole_model_in_the_place_of_its_weights(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    torch.save(model, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"holds more than tensors, .* save `model.state_dict\(\)` instead"):
        load_weights(nn.Linear(2, 3), tmp_path / "model.pth")


def test_what_the_file_holds_is_told(tmp_path: Path) -> None:
    torch.save({"state_dict": {"kernel": torch.zeros(3, 2), "offset": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"holds 2 other tensors: state_dict.kernel, state_dict.offset"):
        load_weights(nn.Linear(2, 3), tmp_path / "other.pth")
