"""Which decoder rebuilds images from feature vectors."""

from typing import Annotated, Literal

from pydantic import Field

from fgssl.settings.declare import PositiveInt, default_name, settings


@settings
class LightDecoderSettings:
    """Linear map to 4x4, then nearest x2 and a 3x3 convolution until the image size is reached; for small images."""

    name: Literal["light"] = "light"
    width: PositiveInt = 64
    """Channels at 4x4; halved at every doubling, never under 16."""


@settings
class MirroredResNetDecoderSettings:
    """ResNet-50 run backwards: bottleneck stages [3, 4, 6, 3] from 7x7 up to the image."""

    name: Literal["mirrored_resnet50"] = "mirrored_resnet50"


DecoderSettings = Annotated[
    LightDecoderSettings | MirroredResNetDecoderSettings, Field(discriminator="name"), default_name("light")
]
