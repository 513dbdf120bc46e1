"""Methods that show what a measure gives without an encoder: nothing is trained, and other features are measured."""

from typing import Literal

from fgssl.settings.declare import PositiveInt, settings
from fgssl.settings.methods import MethodSettings


@settings
class PixelsSettings(MethodSettings):
    """No method: the features are the pixels of the images as they are evaluated, minus the mean training image.

    An encoder that is not better than its input has learned nothing. Only `data`, the evaluation's part of `views`,
    `evaluation`, `seed` and `resources` have an effect.
    """

    trains = False
    num_views = 0
    networks = ()
    stand_in = "fgssl.encoders.stand_ins:Pixels"

    name: Literal["pixels"] = "pixels"
    side: PositiveInt = 32
    """Side in pixels to which larger images are averaged. 32 gives 3,072 features, about as many as a ResNet-50 has;
    the 150,528 of an image of 224 pixels would take 7 GB for the 11,788 images of CUB-200."""


@settings
class ChanceSettings(MethodSettings):
    """No method: the features are random numbers, drawn for each image, and as many as the encoder has.

    Whatever a measure gives for them, it gives for an encoder that sees nothing. `encoder` decides their number;
    beside it, only `data`, the evaluation's part of `views`, `evaluation`, `seed` and `resources` have an effect.
    """

    trains = False
    num_views = 0
    networks = ()
    stand_in = "fgssl.encoders.stand_ins:Chance"

    name: Literal["chance"] = "chance"
