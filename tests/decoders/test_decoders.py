"""Decoders: output sizes, and the cost of the large one."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fgssl.decoders.build import build_decoder
from fgssl.decoders.light import light_decoder
from fgssl.decoders.mirrored_resnet50 import UpBottleneck, mirrored_resnet50_decoder
from fgssl.encoders.batch_norm import GroupedBatchNorm2d
from fgssl.settings.decoder import LightDecoderSettings, MirroredResNetDecoderSettings


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_light_makes_images_of_the_asked_size(size: int) -> None:
    decoder = light_decoder(feature_width=24, image_size=size, width=64)
    assert decoder(torch.randn(4, 24)).shape == (4, 3, size, size)
    widths = [layer.out_channels for layer in decoder if isinstance(layer, nn.Conv2d)]
    assert widths == [*[32, 16, 16, 16][: len(widths) - 1], 3]


@pytest.fixture(scope="module")
def mirrored() -> nn.Sequential:
    torch.manual_seed(0)
    return mirrored_resnet50_decoder(feature_width=2048, image_size=224).eval()


def test_mirrored_goes_from_7x7_to_the_image_in_the_stages_of_resnet50(mirrored: nn.Sequential) -> None:
    shapes = []
    for block in mirrored:
        if isinstance(block, UpBottleneck):
            block.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape[1:])))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        images = mirrored(torch.randn(1, 2048))
    assert images.shape == (1, 3, 224, 224)
    assert shapes == [(1024, 14, 14)] * 3 + [(512, 28, 28)] * 4 + [(256, 56, 56)] * 6 + [(64, 112, 112)] * 3
    assert counter.get_total_flops() / 2e9 == pytest.approx(10.7, abs=0.1)  # GMAC an image


@pytest.mark.parametrize("size", [32, 96])
def test_mirrored_makes_other_multiples_of_32(size: int, mirrored: nn.Sequential) -> None:
    small = mirrored_resnet50_decoder(feature_width=10, image_size=size)
    with torch.no_grad():
        assert small.eval()(torch.randn(1, 10)).shape == (1, 3, size, size)


@pytest.mark.parametrize("settings", [LightDecoderSettings(), MirroredResNetDecoderSettings()])
def test_batch_norms_are_in_groups(settings: LightDecoderSettings | MirroredResNetDecoderSettings) -> None:
    decoder = build_decoder(settings, feature_width=8, image_size=32, group_size=4)
    layers = [layer for layer in decoder.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert layers
    assert all(isinstance(layer, GroupedBatchNorm2d) and layer.group_size == 4 for layer in layers)


def test_pixels_are_not_bounded() -> None:
    """The target is normalized pixels, which lie outside of [0, 1]: no activation at the end."""
    decoder = build_decoder(LightDecoderSettings(width=16), feature_width=8, image_size=8, group_size=4)
    assert isinstance(list(decoder.modules())[-1], nn.Conv2d)
    images = decoder.eval()(100 * torch.randn(4, 8))
    assert images.min() < 0
    assert images.max() > 1
