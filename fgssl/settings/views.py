"""How an image becomes what the encoder sees."""

import dataclasses
from typing import Annotated

from pydantic import Field

from fgssl.settings.declare import (
    FiniteFloat,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    added_later,
    settings,
)

Area = tuple[PositiveFloat, Annotated[FiniteFloat, Field(gt=0, le=1)]]
HueStrength = Annotated[FiniteFloat, Field(ge=0, le=0.5)]
BlurSigma = tuple[PositiveFloat, PositiveFloat]


@settings
class ViewRecipe:
    """How one view is cropped and colored; the defaults are MoCo v2's (Chen et al. 2020, arXiv:2003.04297)."""

    image_size: PositiveInt = 224
    """Side of the square view, pixels."""
    crop_area: Area = (0.2, 1.0)
    """Smallest and largest share of the image's area that a random crop keeps."""
    brightness: NonNegativeFloat = 0.4
    contrast: NonNegativeFloat = 0.4
    saturation: NonNegativeFloat = 0.4
    hue: HueStrength = 0.1
    """Largest change of hue, turns."""
    jitter_probability: Fraction = 0.8
    gray_probability: Fraction = 0.2
    blur_probability: Fraction = 0.5
    blur_sigma: BlurSigma = (0.1, 2.0)
    """Range of the Gaussian blur's standard deviation, pixels."""
    solarize_probability: Fraction = added_later(default=0.0)
    solarize_threshold: Fraction = added_later(default=0.5)
    """Pixel value, of [0, 1], from which solarizing inverts a pixel."""
    horizontal_flip: bool = True
    """Off where left and right are different classes (traffic signs)."""

    def __post_init__(self) -> None:
        if self.crop_area[0] > self.crop_area[1]:
            raise ValueError(f"crop_area {self.crop_area}: the first number must not exceed the second")
        if self.blur_sigma[0] > self.blur_sigma[1]:
            raise ValueError(f"blur_sigma {self.blur_sigma}: the first number must not exceed the second")


@settings
class RecipeSettings:
    """Differences of one or several views from `views`; an empty key is as there."""

    count: PositiveInt = 1
    """Number of views made by this recipe."""
    image_size: PositiveInt | None = None
    crop_area: Area | None = None
    brightness: NonNegativeFloat | None = None
    contrast: NonNegativeFloat | None = None
    saturation: NonNegativeFloat | None = None
    hue: HueStrength | None = None
    jitter_probability: Fraction | None = None
    gray_probability: Fraction | None = None
    blur_probability: Fraction | None = None
    blur_sigma: BlurSigma | None = None
    solarize_probability: Fraction | None = None
    solarize_threshold: Fraction | None = None

    def applied_to(self, recipe: ViewRecipe) -> ViewRecipe:
        """Return `recipe` with the keys of this one."""
        shared = {entry.name: getattr(recipe, entry.name) for entry in dataclasses.fields(ViewRecipe)}
        own = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        del own["count"]
        return ViewRecipe(**shared | own)


@settings
class ViewSettings(ViewRecipe):
    """The views of an image and the resize-only original; `image_size` is the encoder's input size."""

    recipes: tuple[RecipeSettings, ...] = added_later(default=())
    """Recipes of the method's views, in their order; empty: all views are made alike, by the keys above. Multi-crop:
    `[{count: 2, crop_area: [0.25, 1.0]}, {count: 8, crop_area: [0.05, 0.25], image_size: 96}]`."""
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (0.485, 0.456, 0.406)
    """Per channel, of pixels in [0, 1]; ImageNet's by default."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    evaluation_resize: PositiveInt | None = None
    """Shorter side before the center crop of an evaluation image; empty: resized straight to `image_size`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for number, recipe in enumerate(self.recipes):
            try:
                recipe.applied_to(self)
            except ValueError as error:
                raise ValueError(f"recipes.{number}: {error}") from None
        if self.evaluation_resize is not None and self.evaluation_resize < self.image_size:
            raise ValueError(
                f"evaluation_resize {self.evaluation_resize} is smaller than image_size {self.image_size}: "
                "the center crop would not fit; raise evaluation_resize"
            )

    @property
    def num_recipes(self) -> int:
        """Number of views that `recipes` make; 0 if there are none."""
        return sum(recipe.count for recipe in self.recipes)

    @property
    def alike(self) -> bool:
        """Whether every recipe is as if there were none."""
        return all(recipe.applied_to(self) == RecipeSettings().applied_to(self) for recipe in self.recipes)

    def of_each(self, number: int) -> tuple[ViewRecipe, ...]:
        """Return the recipe of each of `number` views."""
        if not self.recipes or number == 0:
            return (self,) * number
        if self.num_recipes != number:
            raise ValueError(f"views.recipes makes {self.num_recipes} views, not {number}")
        return tuple(one for recipe in self.recipes for one in (recipe.applied_to(self),) * recipe.count)
