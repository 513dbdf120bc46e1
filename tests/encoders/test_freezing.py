"""Frozen parts of an encoder: not one bit changes, in the encoder or in its copies."""

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from fgssl.encoders.build import build_encoder, feature_width
from fgssl.encoders.freezing import freeze, train_unfrozen
from fgssl.errors import SettingsError
from fgssl.settings.encoder import EncoderSettings

RESNET: dict[str, Any] = {"name": "resnet18", "arguments": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
VIT: dict[str, Any] = {
    "name": "vit_tiny_patch16_224",
    "arguments": {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3},
}


class TwoNetworks(nn.Module):
    """Online encoder with a head, and a copy of the encoder, as in a method."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(feature_width(encoder), 4)
        self.copy = copy.deepcopy(encoder)

    def forward(self, images: Tensor) -> Tensor:
        return (self.head(self.encoder(images)) + self.copy(images).mean()).square().mean()


def trained(model: dict[str, Any], frozen: tuple[str, ...], steps: int = 3) -> tuple[dict[str, Tensor], TwoNetworks]:
    """Return the initial state, and the networks after some steps of SGD with momentum and weight decay."""
    networks = TwoNetworks(build_encoder(EncoderSettings(**model, frozen=frozen, batch_norm_group_size=4), 32))
    before = {key: value.clone() for key, value in networks.state_dict().items()}
    assert train_unfrozen(networks) is networks
    wanted = [parameter for parameter in networks.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(wanted, lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        networks(torch.randn(8, 3, 32, 32)).backward()
        optimizer.step()
    return before, networks


def moved(before: dict[str, Tensor], networks: nn.Module) -> set[str]:
    return {key for key, value in networks.state_dict().items() if not torch.equal(value, before[key])}


@pytest.mark.parametrize(
    ("model", "frozen"),
    [
        (RESNET, ()),
        (RESNET, ("conv1", "bn1", "layer1")),
        (RESNET, ("layer2.0.bn1",)),
        (VIT, ("cls_token", "pos_embed", "patch_embed", "blocks.0")),
        (VIT, ("blocks",)),
    ],
)
def test_frozen_parts_keep_every_bit_and_all_others_move(model: dict[str, Any], frozen: tuple[str, ...]) -> None:
    before, networks = trained(model, frozen)
    still = {
        key
        for key in before
        for network in ("encoder", "copy")
        for name in frozen
        if key == f"{network}.{name}" or key.startswith(f"{network}.{name}.")
    }
    assert bool(still) == bool(frozen)
    assert moved(before, networks) == set(before) - still


def test_all_is_the_whole_encoder() -> None:
    before, networks = trained(RESNET, ("all",))
    assert moved(before, networks) == {"head.weight", "head.bias"}
    assert not any(parameter.requires_grad for parameter in networks.encoder.parameters())
    assert not any(module.training for module in networks.encoder.modules())
    assert networks.training


def test_a_frozen_batch_norm_uses_its_running_statistics_in_training() -> None:
    encoder = build_encoder(EncoderSettings(**RESNET, batch_norm_group_size=4), 32)
    encoder(torch.randn(8, 3, 32, 32) * 3 + 1)  # running statistics that are not their initial ones
    images = torch.randn(8, 3, 32, 32)
    train_unfrozen(freeze(encoder, ["all"]))
    assert torch.equal(encoder(images), copy.deepcopy(encoder).eval()(images))


def test_plain_train_would_thaw_what_train_unfrozen_keeps() -> None:
    encoder = freeze(build_encoder(EncoderSettings(**RESNET), 32), ["layer1"])
    assert not encoder.layer1.training  # type: ignore[union-attr]
    encoder.train()
    assert encoder.layer1[0].bn1.training  # type: ignore[index, union-attr]
    train_unfrozen(encoder)
    assert not any(module.training for module in encoder.layer1.modules())  # type: ignore[union-attr]
    assert encoder.layer2.training  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (RESNET, "layer_1", "unknown module 'layer_1': did you mean 'layer1'? allowed: all, conv1, bn1, "),
        (RESNET, "layer1.7", "unknown module 'layer1.7': did you mean 'layer1'? allowed: all, conv1, bn1, "),
        (VIT, "pos_embedding", "unknown module 'pos_embedding': did you mean 'pos_embed'? allowed: all, cls_token, "),
        (VIT, "", "unknown module '': allowed: all, cls_token, pos_embed, patch_embed, "),
    ],
)
def test_an_unknown_name(model: dict[str, Any], name: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_encoder(EncoderSettings(**model, frozen=("norm" if model is VIT else "bn1", name)), 32)
    said = str(caught.value)
    assert said.startswith(f"config: encoder.frozen: {message}")
    allowed, _, rest = said.partition("allowed: ")[2].partition(", or ")
    assert rest == "the dotted name of a module with weights or of a parameter inside one of these"
    assert len(said.splitlines()) == 1
    freeze(build_encoder(EncoderSettings(**model), 32), allowed.split(", "))  # each of them can be frozen


def test_all_unknown_names_are_told_and_nothing_is_frozen() -> None:
    encoder = build_encoder(EncoderSettings(**RESNET), 32)
    with pytest.raises(SettingsError) as caught:
        freeze(encoder, ["layer1", "stem", "head.fc"])
    assert [problem.message.split(":")[0] for problem in caught.value.problems] == [
        "unknown module 'stem'",
        "unknown module 'head.fc'",
    ]
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_a_part_without_weights_is_refused() -> None:
    encoder = timm.create_model("resnet18", num_classes=0)
    with pytest.raises(SettingsError, match=r"encoder.frozen: fc: has no weights in this encoder: remove it"):
        freeze(encoder, ["layer1", "fc"])
