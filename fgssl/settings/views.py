"""From an image to what the encoder sees."""

from typing import Annotated

from pydantic import Field

from fgssl.settings.declare import FiniteFloat, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, settings


@settings
class ViewSettings:
    """The two-view recipe of MoCo v2 (Chen et al. 2020, arXiv:2003.04297) and the resize-only original."""

    image_size: PositiveInt = 224
    """Side of the square input of the encoder, pixels."""
    crop_area: tuple[PositiveFloat, Annotated[FiniteFloat, Field(gt=0, le=1)]] = (0.2, 1.0)
    """Smallest and largest share of the image's area that a random crop keeps."""
    brightness: NonNegativeFloat = 0.4
    contrast: NonNegativeFloat = 0.4
    saturation: NonNegativeFloat = 0.4
    hue: Annotated[FiniteFloat, Field(ge=0, le=0.5)] = 0.1
    """Largest change of hue, turns."""
    jitter_probability: Fraction = 0.8
    gray_probability: Fraction = 0.2
    blur_probability: Fraction = 0.5
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)
    """Range of the Gaussian blur's standard deviation, pixels."""
    horizontal_flip: bool = True
    """Off where left and right are different classes (traffic signs)."""
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (0.485, 0.456, 0.406)
    """Per channel, of pixels in [0, 1]; ImageNet's by default."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    evaluation_resize: PositiveInt | None = None
    """Shorter side before the center crop of an evaluation image; empty: resized straight to `image_size`."""

    def __post_init__(self) -> None:
        if self.crop_area[0] > self.crop_area[1]:
            raise ValueError(f"crop_area {self.crop_area}: the first number must not exceed the second")
        if self.blur_sigma[0] > self.blur_sigma[1]:
            raise ValueError(f"blur_sigma {self.blur_sigma}: the first number must not exceed the second")
        if self.evaluation_resize is not None and self.evaluation_resize < self.image_size:
            raise ValueError(
                f"evaluation_resize {self.evaluation_resize} is smaller than image_size {self.image_size}: "
                "the center crop would not fit; raise evaluation_resize"
            )
