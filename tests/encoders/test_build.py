"""Encoders by timm's names, and what is said of names and arguments that do not fit."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from fgssl.encoders.batch_norm import GroupedBatchNorm2d
from fgssl.encoders.build import build_encoder, feature_width
from fgssl.encoders.settings import EncoderSettings
from fgssl.errors import SettingsError

SMALL: dict[str, Any] = {"channels": [8, 8, 16, 24], "layers": [1, 1, 1, 1]}


def test_a_timm_model_without_its_classifier() -> None:
    encoder = build_encoder(EncoderSettings(name="resnet18", arguments=SMALL))
    plain = timm.create_model("resnet18", num_classes=0, **SMALL)
    assert list(encoder.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(encoder.state_dict())
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(encoder.eval()(images), plain.eval()(images))
    assert encoder(images).shape == (3, feature_width(encoder)) == (3, 24)


def test_batch_norms_are_in_groups_of_the_set_size() -> None:
    encoder = build_encoder(EncoderSettings(name="resnet18", arguments=SMALL, batch_norm_group_size=8))
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert len(layers) > 8
    assert all(isinstance(layer, GroupedBatchNorm2d) and layer.group_size == 8 for layer in layers)


def test_the_weights_are_a_function_of_torchs_seed() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_encoder(EncoderSettings(name="resnet18", arguments=SMALL, stem="small_image")).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["conv1.weight"], states[2]["conv1.weight"])


def test_the_stem_for_small_images_keeps_the_resolution() -> None:
    settings = EncoderSettings(name="resnet18", arguments=SMALL, stem="small_image")
    encoder = build_encoder(settings)
    sides = []
    encoder.layer1.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))  # type: ignore[union-attr]
    encoder.eval()(torch.randn(2, 3, 32, 32))
    assert sides == [32]
    assert encoder.conv1.weight.shape == (64, 3, 3, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["resnet18d", "vit_tiny_patch16_224"])
def test_the_stem_for_small_images_refuses_what_is_no_plain_resnet(name: str) -> None:
    with pytest.raises(SettingsError, match=r"encoder.stem: small_image fits ResNets .* take standard"):
        build_encoder(EncoderSettings(name=name, stem="small_image"))


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        build_encoder(EncoderSettings(name="resnet_50"))
    assert str(caught.value) == (
        "config: encoder.name: unknown model 'resnet_50': did you mean 'resnet50'? allowed: timm.list_models()"
    )


@pytest.mark.parametrize("arguments", [{"chanels": [8, 8, 8, 8]}, {"output_stride": 5}, {"layers": "many"}])
def test_arguments_that_timm_refuses(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"encoder.arguments: timm.create_model\('resnet18', .* refuses them: "):
        build_encoder(EncoderSettings(name="resnet18", arguments=arguments))


def test_a_model_whose_batch_norms_cannot_be_grouped() -> None:
    with pytest.raises(SettingsError, match=r"encoder.name: mobilenetv3_small_050: .* cannot be grouped"):
        build_encoder(EncoderSettings(name="mobilenetv3_small_050"))
