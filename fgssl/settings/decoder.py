"""Section `decoder`: each class is one `decoder.name` and one line of `DECODERS`."""

import math
from typing import ClassVar, Literal

from fgssl.registries import Registry
from fgssl.settings.declare import PositiveInt, settings

DECODERS = Registry(
    f"{__file__}: DECODERS",
    {
        "light": "fgssl.settings.decoder:LightDecoderSettings",
        "mirrored_resnet50": "fgssl.settings.decoder:MirroredResNetDecoderSettings",
    },
)
"""Dotted path of the settings class of each decoder."""


@settings
class DecoderSettings:
    """Settings of a decoder, and its traits that are needed before it is built."""

    implementation: ClassVar[str]
    """Dotted path, `module:function`, of `(feature_width, image_size, **further settings) -> nn.Module`."""
    sizes: ClassVar[str]
    """Image sizes that the decoder can make, in words for messages."""
    weights_fit_any_size: ClassVar[bool] = True
    """Whether weights that were trained at one image size can be loaded at another."""

    name: str
    """Name of the decoder, a key of `DECODERS`."""

    def makes(self, image_size: int) -> bool:
        """Return whether the decoder can make images of this side length, in pixels."""
        raise NotImplementedError


@settings
class LightDecoderSettings(DecoderSettings):
    """Decoder for small images: a linear map to 4x4, then nearest x2 and a 3x3 convolution up to the image size."""

    implementation = "fgssl.decoders.light:light_decoder"
    sizes = "8, 16, 32, 64, ... pixels"
    weights_fit_any_size = False  # the image size decides the depth

    name: Literal["light"] = "light"
    width: PositiveInt = 64
    """Number of channels at 4x4. It is halved at every doubling of the side, down to 16. 64 suffices for images of
    about 32 pixels; it is our choice."""

    def makes(self, image_size: int) -> bool:
        """Return whether `image_size` is 4 times a power of two, at least 8 pixels."""
        return image_size >= 8 and not math.log2(image_size / 4) % 1


@settings
class MirroredResNetDecoderSettings(DecoderSettings):
    """ResNet-50 run backwards, for images of the papers' size: bottleneck stages [3, 4, 6, 3] from 7x7 up to 224."""

    implementation = "fgssl.decoders.mirrored_resnet50:mirrored_resnet50_decoder"
    sizes = "multiples of 32 pixels"

    name: Literal["mirrored_resnet50"] = "mirrored_resnet50"

    def makes(self, image_size: int) -> bool:
        """Return whether `image_size` is a multiple of 32 pixels."""
        return image_size % 32 == 0
