"""Feature maps: the two steps of an encoder, maps of all kinds of encoders, Grad-CAM against a slow loop."""

from typing import Any

import pytest
import torch
from torch import nn

from fgssl.encoders.build import build_encoder
from fgssl.encoders.feature_maps import (
    as_map,
    grad_cam,
    map_channels,
    pooled,
    refuse_normalized_maps,
    refuse_unused_maps,
    unpooled,
)
from fgssl.errors import SettingsError
from fgssl.settings.encoder import EncoderSettings

SWIN = {"img_size": 64, "window_size": 4, "embed_dim": 12, "depths": [1, 1, 1, 1], "drop_path_rate": 0.0}
SMALL_RESNET: dict[str, Any] = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("resnet18", SMALL_RESNET, (16, 2, 2)),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2, "embed_dim": 12}, (12, 4, 4)),
        ("swin_tiny_patch4_window7_224", SWIN, (96, 2, 2)),
    ],
)
def test_maps_of_all_kinds_of_encoders(name: str, arguments: dict[str, Any], shape: tuple[int, ...]) -> None:
    encoder = build_encoder(EncoderSettings(name=name, arguments=arguments), 64).eval()
    images = torch.randn(2, 3, 64, 64)
    found = unpooled(encoder, images)
    assert torch.equal(pooled(encoder, found), encoder(images))
    assert as_map(found, encoder).shape == (2, *shape)
    if "vit" not in name:  # whose feature is that of a token beside the map
        torch.testing.assert_close(as_map(found, encoder).mean(dim=(2, 3)), encoder(images))
    assert map_channels(encoder, 64) == shape[0]


def test_patches_stand_where_they_are_in_the_image() -> None:
    arguments: dict[str, Any] = {"img_size": 64, "depth": 1, "embed_dim": 12}
    encoder = build_encoder(EncoderSettings(name="vit_tiny_patch16_224", arguments=arguments), 64).eval()
    tokens = torch.arange(17.0).view(1, 17, 1)  # the first is the class token
    assert torch.equal(as_map(tokens, encoder)[0, 0], torch.arange(1.0, 17).view(4, 4))


def test_an_encoder_in_training_stays_so_and_frozen_parts_do_not() -> None:
    encoder = build_encoder(EncoderSettings(name="resnet18", arguments=SMALL_RESNET, frozen=("layer1",)), 64)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    map_channels(encoder, 64)
    assert encoder.layer4.training  # type: ignore[union-attr]
    assert not encoder.layer1.training  # type: ignore[union-attr]
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_map_needs_several_positions() -> None:
    encoder = build_encoder(EncoderSettings(name="resnet18", arguments=SMALL_RESNET), 32)
    with pytest.raises(SettingsError, match="has one position"):
        map_channels(encoder, 32)
    with pytest.raises(SettingsError, match="Identity gives no feature map"):
        map_channels(nn.Identity(), 32)


def test_memory_that_runs_out_is_not_an_encoder_without_map(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError

    encoder = build_encoder(EncoderSettings(name="resnet18", arguments=SMALL_RESNET), 64)
    monkeypatch.setattr(encoder, "forward_features", full)
    with pytest.raises(torch.OutOfMemoryError):
        map_channels(encoder, 64)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", SMALL_RESNET),
        ("resnet18", SMALL_RESNET | {"global_pool": "max"}),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 1, "embed_dim": 12, "global_pool": "avg"}),
        ("swin_tiny_patch4_window7_224", SWIN),
        ("convnext_atto", {"dims": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}),
    ],
)
def test_maps_that_are_pooled_are_used(name: str, arguments: dict[str, Any]) -> None:
    refuse_unused_maps(build_encoder(EncoderSettings(name=name, arguments=arguments), 64), 64)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 1, "embed_dim": 12}),
        ("swin_tiny_patch4_window7_224", SWIN),
        ("convnext_atto", {"dims": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}),
    ],
)
def test_maps_before_a_layer_norm_sum_to_nothing(name: str, arguments: dict[str, Any]) -> None:
    """A change of the sum over the channels at every position leaves the features as they are."""
    encoder = build_encoder(EncoderSettings(name=name, arguments=arguments), 64).eval()
    if name == "convnext_atto":  # elsewhere the map comes after the layer norm
        found = unpooled(encoder, torch.randn(2, 3, 64, 64))
        torch.testing.assert_close(pooled(encoder, found + 3), pooled(encoder, found), rtol=1e-3, atol=1e-3)
    with pytest.raises(SettingsError, match=r"contrastive_crop\.boxes: .* removes that sum, .*: take center, or a Res"):
        refuse_normalized_maps(encoder)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "regnety_002"])
def test_maps_of_convolutional_networks_are_not_refused(name: str) -> None:
    refuse_normalized_maps(build_encoder(EncoderSettings(name=name), 64))


def test_grad_cam_is_the_positive_part_of_weighted_channels() -> None:
    found, gradient = torch.randn(2, 3, 4, 2, 5)
    for image, (one, by) in enumerate(zip(found, gradient, strict=True)):
        for i in range(2):
            for j in range(5):
                score = sum(float(by[c].sum() / 10 * one[c, i, j]) for c in range(4))
                assert float(grad_cam(found, gradient)[image, i, j]) == pytest.approx(max(score, 0), abs=1e-6)
