"""Section `views`: the way from an image to the input of the encoder."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field

from fgssl.settings.declare import (
    FiniteFloat,
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
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
    """Crop and colors of one view. The defaults are MoCo v2's (Chen et al. 2020, arXiv:2003.04297)."""

    image_size: PositiveInt = 224
    """Side of the square view, in pixels."""
    crop_area: Area = (0.2, 1.0)
    """Smallest and largest share of the image's area that a random crop keeps. The crop's aspect ratio lies between 3/4
    and 4/3."""
    brightness: NonNegativeFloat = 0.4
    """Strength b of the brightness jitter: pixels are multiplied by a factor drawn from [1 - b, 1 + b], at least 0."""
    contrast: NonNegativeFloat = 0.4
    """Strength c of the contrast jitter: the distance of pixels from the image's mean gray is multiplied by a factor
    drawn from [1 - c, 1 + c], at least 0."""
    saturation: NonNegativeFloat = 0.4
    """Strength s of the saturation jitter: the distance of pixels from their own gray is multiplied by a factor drawn
    from [1 - s, 1 + s], at least 0."""
    hue: HueStrength = 0.1
    """Largest change of the hue, in turns of the color circle, in either direction."""
    jitter_probability: Fraction = 0.8
    """Probability that brightness, contrast, saturation and hue of a view are changed, in random order."""
    gray_probability: Fraction = 0.2
    """Probability that a view loses its color."""
    blur_probability: Fraction = 0.5
    """Probability that a view is blurred by a Gaussian."""
    blur_sigma: BlurSigma = (0.1, 2.0)
    """Smallest and largest standard deviation of the Gaussian, in pixels, meant for views of 224 pixels."""
    solarize_probability: Fraction = added_later(default=0.0)
    """Probability that a view is solarized. MoCo v2 never does it; BYOL takes 0.2 for its second view."""
    solarize_threshold: Fraction = added_later(default=0.5)
    """Pixel value in [0, 1] from which solarization inverts a pixel. 0.5 is BYOL's."""
    horizontal_flip: bool = True
    """Whether a view is mirrored with probability 0.5. Set it to false where left and right are different classes, as
    with traffic signs."""

    def __post_init__(self) -> None:
        if self.crop_area[0] > self.crop_area[1]:
            raise ValueError(f"crop_area {self.crop_area}: the first number must not exceed the second")
        if self.blur_sigma[0] > self.blur_sigma[1]:
            raise ValueError(f"blur_sigma {self.blur_sigma}: the first number must not exceed the second")


@settings
class RecipeSettings:
    """Differences of one or several views from the keys of `views`, which hold wherever a key here is empty."""

    count: PositiveInt = 1
    """Number of views that this recipe makes."""
    image_size: PositiveInt | None = None
    """Side of the square view, in pixels; 96 for DINO's small crops."""
    crop_area: Area | None = None
    """Smallest and largest share of the image's area that a random crop keeps."""
    brightness: NonNegativeFloat | None = None
    """Strength of the brightness jitter, as in `views`."""
    contrast: NonNegativeFloat | None = None
    """Strength of the contrast jitter, as in `views`."""
    saturation: NonNegativeFloat | None = None
    """Strength of the saturation jitter, as in `views`."""
    hue: HueStrength | None = None
    """Largest change of the hue, in turns of the color circle."""
    jitter_probability: Fraction | None = None
    """Probability that the colors of the view are changed."""
    gray_probability: Fraction | None = None
    """Probability that the view loses its color."""
    blur_probability: Fraction | None = None
    """Probability that the view is blurred. BYOL takes 1 for its first view and 0.1 for its second."""
    blur_sigma: BlurSigma | None = None
    """Smallest and largest standard deviation of the blur, in pixels."""
    solarize_probability: Fraction | None = None
    """Probability that the view is solarized."""
    solarize_threshold: Fraction | None = None
    """Pixel value in [0, 1] from which solarization inverts a pixel."""

    def applied_to(self, recipe: ViewRecipe) -> ViewRecipe:
        """Return `recipe` with the keys that are given here in place of its own."""
        shared = {entry.name: getattr(recipe, entry.name) for entry in dataclasses.fields(ViewRecipe)}
        own = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        del own["count"]
        return ViewRecipe(**shared | own)


@settings
class ContrastiveCropSettings:
    """ContrastiveCrop (Peng et al. 2022, arXiv:2202.03278): random crops whose centers lie in a box around the object.

    Size and aspect ratio are drawn as for any random crop.
    """

    boxes: Literal["activations", "center"] = "activations"
    """Origin of the boxes. `activations` finds one for each training image, in the encoder's last feature map. `center`
    is SimCCrop of the authors' code: the middle half of the width and of the height, which needs no encoder and holds
    from the first epoch on."""
    alpha: PositiveFloat = 0.6
    """Parameter of the distribution Beta(alpha, alpha) of the center along each side of the box. Below 1 it prefers the
    edges, so that two views of an image differ more; 1 is uniform. The paper takes 0.6."""
    threshold: FractionBelowOne = 0.1
    """Smallest activation inside a box, where the sum over the channels of the feature map is scaled to [0, 1]. 0.1 is
    the paper's. Only for `activations`."""
    warm_up_epochs: NonNegativeInt = 20
    """Epochs of plain random crops before the first boxes, since an untrained encoder finds no object. The authors wait
    for a fifth of the training, which is 20 of 100 epochs. It must be below `training.epochs`. Only for
    `activations`."""
    every_epochs: PositiveInt = 20
    """Epochs between two searches for boxes. The authors search every fifth of the training. Each search takes one
    forward pass of all training images; with more epochs than the training has, there is one. Only for
    `activations`."""

    def faults(self, epochs: int) -> Iterator[str]:
        """Yield a message if no box is found in a training of `epochs`."""
        if self.boxes == "activations" and self.warm_up_epochs >= epochs:
            yield (
                f"views.contrastive_crop.warm_up_epochs {self.warm_up_epochs} must be below training.epochs {epochs}, "
                f"or no box is ever searched: give a fifth, {epochs // 5}, or boxes: center, which needs no warm-up"
            )

    def canonical(self) -> "ContrastiveCropSettings":
        """Return the settings with the defaults in place of those that are not used."""
        return self if self.boxes == "activations" else ContrastiveCropSettings(boxes="center", alpha=self.alpha)


BackgroundKind = Literal["image", "gray", "texture"]


@settings
class BackgroundSettings:
    """DiLo (Zhao et al. 2021, arXiv:2004.06638): objects are pasted onto other backgrounds.

    Views of an image then share the object, but not always the background. The data must have masks of the objects:
    `fgssl pack ... masks=FOLDER`. The built-in dataset draws its own.
    """

    probability: Fraction = 0.3
    """Probability that a view is cut out of the object on another background, drawn anew for each view. The paper takes
    0.3."""
    kinds: tuple[BackgroundKind, ...] = ("image", "gray", "texture")
    """Kinds of backgrounds, one of which is drawn for each view. `image` is the background of another training image,
    whose own object is filled with the colors around it. `gray` is one random gray value. `texture` is grains of a
    random size, in the colors between two random ones. Filling and grains are ours, since they need no other images."""

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ValueError("kinds: give at least one of image, gray and texture")

    def canonical(self) -> "BackgroundSettings | None":
        """Return the settings with each kind once, in a fixed order, or None if nothing is ever pasted."""
        kinds = tuple(kind for kind in get_args(BackgroundKind) if kind in self.kinds)
        return BackgroundSettings(probability=self.probability, kinds=kinds) if self.probability else None


@settings
class ViewSettings(ViewRecipe):
    """Views of an image for training, and its resized original. `image_size` is also the encoder's input size."""

    contrastive_crop: ContrastiveCropSettings | None = added_later(default=None)
    """Crops of all views around the object, with any method. If empty, crops lie anywhere."""
    background: BackgroundSettings | None = added_later(default=None)
    """Other backgrounds in views, with any method. If empty, images keep their own."""
    recipes: tuple[RecipeSettings, ...] = added_later(default=())
    """Recipes of the method's views, in the order of the views. If empty, the keys above make all views. DINO's
    multi-crop is `[{count: 2, crop_area: [0.25, 1.0]}, {count: 8, crop_area: [0.05, 0.25], image_size: 96}]`."""
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (0.485, 0.456, 0.406)
    """Mean of each channel, subtracted from pixels in [0, 1]. The default is ImageNet's, which ResNet weights expect;
    timm's ViT weights expect 0.5 for mean and std."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    """Standard deviation of each channel, by which pixels in [0, 1] are divided. The default is ImageNet's."""
    evaluation_resize: PositiveInt | None = None
    """Shorter side of an evaluation image before its center crop of `image_size`, in pixels; 256 in Synthesized Pairs,
    at an `image_size` of 224. If empty, the whole image is resized to the square."""

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

    colors_on: Literal["cpu", "device"] = "cpu"
    """Place where the colors, blur and flip of views are computed: `cpu` in the threads that load images, `device` for
    whole batches beside the networks, for nodes with few cores per GPU. Both compute in float32; `cpu` then rounds
    pixels to 1/255."""

    @property
    def num_recipes(self) -> int:
        """Number of views that `recipes` make, or 0 if there are none."""
        return sum(recipe.count for recipe in self.recipes)

    @property
    def alike(self) -> bool:
        """Whether no recipe differs from the keys of `views`."""
        return all(recipe.applied_to(self) == RecipeSettings().applied_to(self) for recipe in self.recipes)

    def of_each(self, number: int) -> tuple[ViewRecipe, ...]:
        """Return the recipes of `number` views; raise a `ValueError` if `recipes` make another number."""
        if not self.recipes or number == 0:
            return (self,) * number
        if self.num_recipes != number:
            raise ValueError(f"views.recipes makes {self.num_recipes} views, not {number}")
        return tuple(one for recipe in self.recipes for one in (recipe.applied_to(self),) * recipe.count)
