"""Settings of the decoders: each class is one `decoder.name` and one line of `DECODERS`."""

import math
from typing import ClassVar, Literal

from fgssl.settings.declare import PositiveInt, settings

DECODERS: dict[str, str] = {
    "light": "fgssl.settings.decoder:LightDecoderSettings",
    "mirrored_resnet50": "fgssl.settings.decoder:MirroredResNetDecoderSettings",
}
"""Dotted path of the settings class of each decoder."""


@settings
class DecoderSettings:
    """Settings of a decoder, and everything that is known of it before it is built."""

    implementation: ClassVar[str]
    """Dotted path, `module:function`, of `(feature_width, image_size, **further settings) -> nn.Module`."""
    sizes: ClassVar[str]
    """Image sizes that it makes, in words."""
    weights_fit_any_size: ClassVar[bool] = True
    """Whether weights that were trained at one image size can be loaded at another."""

    name: str

    def makes(self, image_size: int) -> bool:
        """Return whether it makes images of this side length, in pixels."""
        raise NotImplementedError


@settings
class LightDecoderSettings(DecoderSettings):
    """Linear map to 4x4, then nearest x2 and a 3x3 convolution until the image size is reached; for small images."""

    implementation = "fgssl.decoders.light:light_decoder"
    sizes = "8, 16, 32, 64, ... pixels"
    weights_fit_any_size = False  # which decides the depth

    name: Literal["light"] = "light"
    width: PositiveInt = 64
    """Channels at 4x4; they halve at every doubling, down to 16."""

    def makes(self, image_size: int) -> bool:
        return image_size >= 8 and not math.log2(image_size / 4) % 1


@settings
class MirroredResNetDecoderSettings(DecoderSettings):
    """ResNet-50 run backwards: bottleneck stages [3, 4, 6, 3] from 7x7 up to the image."""

    implementation = "fgssl.decoders.mirrored_resnet50:mirrored_resnet50_decoder"
    sizes = "multiples of 32 pixels"

    name: Literal["mirrored_resnet50"] = "mirrored_resnet50"

    def makes(self, image_size: int) -> bool:
        return image_size % 32 == 0
