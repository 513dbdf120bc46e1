"""Checkpoints of other projects, laid out as their public repositories write them, from one tiny network."""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fgssl.encoders.build import build_encoder
from fgssl.encoders.prefixes import networks, without_copies
from fgssl.encoders.weights import load_weights
from fgssl.errors import CheckpointError
from fgssl.settings.encoder import EncoderSettings

SMALL = EncoderSettings(name="resnet18", arguments={"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})
State = dict[str, Tensor]


def below(prefix: str, state: State) -> State:
    return {f"{prefix}.{key}": value for key, value in state.items()}


def options() -> argparse.Namespace:
    return argparse.Namespace(lr=np.float64(0.03), data=Path("/data"), sizes=np.arange(3), scales=(0.4, 1.0))


def trained(state: State) -> dict[str, Any]:
    """Return the optimizer's state after a step on weights of these shapes, and the loop's own entries."""
    weights = [nn.Parameter(value.clone()) for value in state.values() if value.is_floating_point()]
    optimizer = torch.optim.Adam(weights)
    sum(weight.sum() for weight in weights).backward()  # type: ignore[union-attr]
    optimizer.step()
    return {"epoch": 3, "optimizer": optimizer.state_dict()}


def moco(own: State, other: State) -> dict[str, Any]:
    """Return what main_moco.py of facebookresearch/moco saves, with the MLP head of MoCo v2."""
    head = {"fc.0.weight": torch.zeros(16, 16), "fc.2.weight": torch.zeros(8, 16)}
    state = below("encoder_q", own | head) | below("encoder_k", other | head)
    state |= {"queue": torch.zeros(8, 32), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"arch": "resnet18", "state_dict": below("module", state), **trained(own)}


def dino(own: State, other: State) -> dict[str, Any]:
    """Return what main_dino.py of facebookresearch/dino saves; networks without BatchNorm have no teacher.module."""
    head = {"mlp.0.weight": torch.zeros(8, 16), "last_layer.weight_g": torch.zeros(8, 1)}
    student = below("module", below("backbone", other) | below("head", head))
    teacher = below("backbone", own) | below("head", head)
    center = {"center": torch.zeros(1, 8)}
    return {"student": student, "teacher": teacher, "args": options(), "dino_loss": center, **trained(own)}


def solo_learn(own: State, other: State) -> dict[str, Any]:
    """Return what Lightning saves of a momentum method of vturrisi/solo-learn."""
    heads = {"classifier.weight": torch.zeros(5, 16), "projector.0.weight": torch.zeros(8, 16)}
    state = below("backbone", own) | below("momentum_backbone", other) | heads
    own_entries = {"pytorch-lightning_version": "2.6.0", "global_step": 7, "loops": {"fit_loop": {"state_dict": {}}}}
    callbacks = {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "dirpath": Path("/out")}}
    return {"state_dict": state, "callbacks": callbacks, "hyper_parameters": options(), **own_entries, **trained(own)}


def supcontrast(own: State, other: State) -> dict[str, Any]:
    """Return what save_model in util.py of HobbitLong/SupContrast saves; DataParallel wraps the encoder alone."""
    own = {key.replace("downsample", "shortcut"): value for key, value in own.items()}
    head = {"head.0.weight": torch.zeros(16, 16)}
    return {"opt": options(), "model": below("encoder.module", own) | head, **trained(own)}


def lightly(own: State, other: State) -> dict[str, Any]:
    """Return what Lightning saves of MoCo in lightly-ai/lightly, with `nn.Sequential` of a ResNet's children."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}

    def numbered(state: State) -> State:
        return {f"{numbers[top]}.{rest}": state[f"{top}.{rest}"] for top, _, rest in (k.partition(".") for k in state)}

    state = below("backbone", numbered(own)) | below("backbone_momentum", numbered(other))
    return {"state_dict": state | {"projection_head.layers.0.weight": torch.zeros(8, 16)}, **trained(own)}


def lightly_student(own: State, other: State) -> dict[str, Any]:
    return {"state_dict": below("student.backbone", own) | {"student.head.weight": torch.zeros(8, 16)}}


def older_solo_learn(own: State, other: State) -> dict[str, Any]:
    return {"state_dict": below("encoder", own) | below("momentum_encoder", other)}


def torchvision_reference(own: State, other: State) -> dict[str, Any]:
    return {"model": below("module", own | {"fc.weight": torch.zeros(5, 16)}), "args": options(), **trained(own)}


LAYOUTS: dict[str, tuple[Callable[[State, State], dict[str, Any]], str]] = {
    "moco": (moco, "state_dict.module.encoder_q"),
    "dino": (dino, "teacher.backbone"),
    "solo-learn": (solo_learn, "state_dict.backbone"),
    "solo-learn, older": (older_solo_learn, "state_dict.encoder"),
    "supcontrast": (supcontrast, "model.encoder.module"),
    "lightly": (lightly, "state_dict.backbone"),
    "lightly, student alone": (lightly_student, "state_dict.student.backbone"),
    "torchvision's reference": (torchvision_reference, "model.module"),
    "timm": (
        lambda own, other: {"arch": "resnet18", "state_dict": own, "args": options(), **trained(own)},
        "state_dict",
    ),
    "timm, state dict alone": (lambda own, other: dict(own), ""),
}


@pytest.fixture
def encoders() -> tuple[nn.Module, nn.Module]:
    """Return two networks of equal shapes and different weights."""
    first, second = build_encoder(SMALL, 32), build_encoder(SMALL, 32)
    assert not torch.equal(first.state_dict()["conv1.weight"], second.state_dict()["conv1.weight"])
    return first, second


def states(encoders: tuple[nn.Module, nn.Module]) -> tuple[State, State]:
    return dict(encoders[0].state_dict()), dict(encoders[1].state_dict())


def loaded(file: Path, prefix: str | None = None) -> tuple[str, State]:
    """Return the prefix that was found, and the weights of a new encoder that took them."""
    encoder = build_encoder(SMALL, 32)
    return load_weights(encoder, file, prefix), dict(encoder.state_dict())


def assert_equal(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("zipped", [True, False])  # torch wrote no zip archives before 1.6
@pytest.mark.parametrize("layout", ["moco", "supcontrast"])
def test_files_of_any_age_of_torch_are_read(
    layout: str, zipped: bool, encoders: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    build, prefix = LAYOUTS[layout]
    own, other = states(encoders)
    content = build(own, other)
    if layout == "supcontrast":
        content["opt"] = argparse.Namespace(lr=0.03)
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    assert loaded(tmp_path / "file.pth")[0] == prefix


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_is_recognized(layout: str, encoders: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    build, prefix = LAYOUTS[layout]
    own, other = states(encoders)
    torch.save(build(own, other), tmp_path / "file.pth")
    found, weights = loaded(tmp_path / "file.pth")
    assert found == prefix
    assert_equal(weights, own)


@pytest.mark.parametrize(
    ("layout", "prefix", "whole"),
    [
        ("moco", "encoder_k", "state_dict.module.encoder_k"),
        ("moco", "module.encoder_k.", "state_dict.module.encoder_k"),
        ("dino", "student", "student.module.backbone"),
        ("solo-learn", "momentum_backbone", "state_dict.momentum_backbone"),
        ("lightly", "state_dict.backbone_momentum", "state_dict.backbone_momentum"),
    ],
)
def test_the_setting_chooses_the_copy(
    layout: str, prefix: str, whole: str, encoders: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    own, other = states(encoders)
    torch.save(LAYOUTS[layout][0](own, other), tmp_path / "file.pth")
    found, weights = loaded(tmp_path / "file.pth", prefix)
    assert found == whole
    assert_equal(weights, other)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema.module"),
        ("state_dict.backbone", "state_dict.student_backbone"),
        ("backbone", "averaged.backbone"),
    ],
)
def test_two_that_fit_are_refused_until_one_is_chosen(
    first: str, second: str, encoders: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    own, other = states(encoders)
    file = tmp_path / "file.pth"
    content: dict[str, Any] = {}
    for prefix, state in ((first, own), (second, other)):
        top, _, rest = prefix.partition(".")
        content.setdefault(top, {}).update(below(rest, state) if rest else state)
    torch.save(content, file)
    with pytest.raises(CheckpointError) as caught:
        loaded(file)
    assert str(caught.value) == (
        f"{file}: holds 2 networks that fit, below the prefixes {first}, {second}: choose one, such as "
        f"start.encoder.prefix={first}"
    )
    assert_equal(loaded(file, first)[1], own)  # what it says to do
    assert_equal(loaded(file, second)[1], other)


def test_a_prefix_that_is_not_there(encoders: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    torch.save(dino(*states(encoders)), tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"no key lies below the prefix encoder_q; at the top of the file are st"):
        loaded(tmp_path / "file.pth", "encoder_q")


def test_the_closest_network_is_compared_if_none_fits(encoders: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    own, other = states(encoders)
    content = moco(own, other)
    for name in ("encoder_q", "encoder_k"):
        del content["state_dict"][f"module.{name}.layer4.0.bn2.bias"]
    del content["state_dict"]["module.encoder_k.layer4.0.bn2.weight"]
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointError) as caught:
        loaded(tmp_path / "file.pth")
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'file.pth'}: weights of another architecture below the prefix state_dict.module.encoder_q:",
        "  missing layer4.0.bn2.bias (16,)",
    ]


def test_a_copy_of_another_shape_does_not_fit(encoders: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    own, _ = states(encoders)
    larger = copy.deepcopy(own) | {"conv1.weight": torch.zeros(8, 3, 9, 9)}
    torch.save({"state_dict": own, "state_dict_ema": larger}, tmp_path / "file.pth")
    assert loaded(tmp_path / "file.pth")[0] == "state_dict"


def test_networks_are_found_below_every_prefix() -> None:
    weight = torch.zeros(1)
    assert networks({"a.b.weight": weight, "a.bias": weight}) == {
        "": {"a.b.weight": weight, "a.bias": weight},
        "a": {"b.weight": weight, "bias": weight},
        "a.b": {"weight": weight},
    }


def test_copies_of_other_networks_stay() -> None:
    assert without_copies(["x.encoder_q", "y.encoder_k", "x.encoder_k"]) == ["x.encoder_q", "y.encoder_k"]
