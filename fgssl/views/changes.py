"""Random changes of the colors of views, as numbers: what to do to each image, and how strongly.

They are drawn on the host for a whole batch, as a function of (seed, view key, view, row). `fgssl.views.on_cpu` applies
them to one image, and `fgssl.views.on_device` to a batch.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fgssl import randomness
from fgssl.settings.views import ViewRecipe

GRAY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in gray: those of torchvision (ITU-R 601)."""
_HUE = 3
"""Number of the hue among brightness, contrast, saturation and hue."""


@dataclass(frozen=True)
class Changes:
    """Changes of N images, in this order: blends, hue, blends, gray, blur, solarize and flip."""

    blends: NDArray[np.float32]
    """Blends (N, 2, 3, 3): three before and three after the change of the hue. A blend is (factor, m, g): pixels become
    `factor * pixels + (1 - factor) * (m * mean gray of the image + g * gray of the pixel)`, clamped to [0, 1].
    Brightness has m = g = 0, contrast m = 1 and saturation g = 1. A factor of 1 changes nothing."""
    turns: NDArray[np.float32]
    """Changes (N,) of the hue in HSV, in turns of the color circle."""
    gray: NDArray[np.bool_]
    """Whether images (N,) lose their color."""
    sigma: NDArray[np.float32]
    """Standard deviation (N,) of the blur, in pixels; 0 is no blur."""
    solarized: NDArray[np.bool_]
    """Whether images (N,) have all pixels of at least the recipe's threshold inverted."""
    flipped: NDArray[np.bool_]
    """Whether images (N,) are mirrored left to right."""
    colored: NDArray[np.bool_] = field(init=False)
    """Whether anything but the flip changes images (N,)."""

    def __post_init__(self) -> None:
        blended = (self.blends[..., 0] != 1).any(axis=(1, 2))
        changed = blended | (self.turns != 0) | self.gray | (self.sigma != 0) | self.solarized
        object.__setattr__(self, "colored", changed)


def drawn(recipe: ViewRecipe, seed: int, view_key: int, view: int, rows: NDArray[np.int64]) -> Changes:
    """Return the changes that `recipe` makes to one view of dataset rows (N,)."""
    numbers = randomness.uniform(seed, "colour", view_key, view, rows=rows, columns=14)
    jittered, gray, blurred, flipped = (numbers[:, column] for column in range(4))
    factors, order, sigma, solarized = numbers[:, 4:8], numbers[:, 8:12], numbers[:, 12], numbers[:, 13]
    jitters = jittered < recipe.jitter_probability
    low, high = recipe.blur_sigma
    return Changes(
        blends=_blends(recipe, jitters, factors, order),
        turns=np.where(jitters, (2 * factors[:, _HUE] - 1) * recipe.hue, 0).astype(np.float32),
        gray=gray < recipe.gray_probability,
        sigma=np.where(blurred < recipe.blur_probability, low + (high - low) * sigma, 0).astype(np.float32),
        solarized=solarized < recipe.solarize_probability,
        flipped=(flipped < 0.5) & recipe.horizontal_flip,
    )


def _blends(
    recipe: ViewRecipe, jitters: NDArray[np.bool_], factors: NDArray[np.float64], order: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return `Changes.blends`, in the order in which `order` (N, 4) sorts the operations and the hue among them."""
    strengths = np.array([recipe.brightness, recipe.contrast, recipe.saturation])
    lowest = np.maximum(1 - strengths, 0)
    scales = np.where(jitters[:, None], lowest + (1 + strengths - lowest) * factors[:, :_HUE], 1)  # (N, 3)
    operations = np.argsort(order, axis=1, kind="stable")  # (N, 4): the operation at each place
    places = np.argsort(operations, axis=1)  # (N, 4): the place of each operation
    hue = places[:, _HUE:]  # (N, 1)
    after = places[:, :_HUE] > hue  # (N, 3)
    within = places[:, :_HUE] - np.where(after, hue + 1, 0)  # place on its side of the hue
    blends = np.zeros((len(order), 2, 3, 3), dtype=np.float32)
    blends[..., 0] = 1
    which = np.arange(len(order))[:, None]
    blends[which, after.astype(int), within] = np.stack(
        [scales, *np.broadcast_to(np.eye(3)[1:, :, None].transpose(0, 2, 1), (2, len(order), 3))], axis=2
    )
    return blends
