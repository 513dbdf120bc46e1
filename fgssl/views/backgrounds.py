"""New backgrounds for the objects in images, as in DiLo (Zhao et al. 2021, arXiv:2004.06638).

What is drawn is a function of (seed, view key, view, row). Pixels are computed in integers, or in float64 by operations
that all processors round alike. All images are uint8 (H, W, 3), and masks (H, W) are true where the object is.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fgssl import randomness
from fgssl.settings.views import BackgroundKind, BackgroundSettings
from fgssl.views import crops

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
_FILLING: Final = (1, 2, 4, 8, 16)
"""Numbers of cells along each side of an image by which its object is filled, from coarse to fine."""
_OUTLINE: Final = 64
"""Share of an image's shorter side, as its inverse, by which an object is enlarged before it is filled."""
_GRAINS: Final = (4, 8, 16, 32, 64)
"""Numbers of grains along each side of a texture, one of which is drawn."""


@dataclass(frozen=True)
class Backgrounds:
    """Backgrounds that are drawn for N images."""

    kinds: list[BackgroundKind | None]
    """Kind of each background; None leaves the image as it is."""
    others: NDArray[np.int64]
    """Rows (N,) of the images whose backgrounds are taken."""
    grays: NDArray[np.uint8]
    """Gray values (N,)."""


def drawn(
    settings: BackgroundSettings, seed: int, view_key: int, view: int, rows: NDArray[np.int64], images: int
) -> Backgrounds:
    """Return the backgrounds of one view of dataset rows (N,), in a dataset of so many images."""
    numbers = randomness.uniform(seed, "background", view_key, view, rows=rows, columns=4)
    which = (numbers[:, 1] * len(settings.kinds)).astype(int).tolist()
    pasted = (numbers[:, 0] < settings.probability).tolist()
    return Backgrounds(
        kinds=[settings.kinds[number] if chosen else None for chosen, number in zip(pasted, which, strict=True)],
        others=(rows + 1 + (numbers[:, 2] * (images - 1)).astype(np.int64)) % images,  # never the image itself
        grays=(numbers[:, 3] * 256).astype(np.uint8),
    )


def pasted(image: Pixels, mask: Mask, background: Pixels) -> Pixels:
    """Paste the object of an image onto a background of the same size, which is changed and returned."""
    cv2.copyTo(image, mask.view(np.uint8), background)
    return background


def gray(value: int, height: int, width: int) -> Pixels:
    """Return a background of one gray value."""
    return np.full((height, width, 3), value, dtype=np.uint8)


def texture(seed: int, view_key: int, view: int, row: int, height: int, width: int) -> Pixels:
    """Return smooth grains of a random size, in the colors between two random ones."""
    most = _GRAINS[-1]
    (numbers,) = randomness.uniform(seed, "texture", view_key, view, rows=np.array([row]), columns=7 + most * most)
    side = _GRAINS[int(numbers[0] * len(_GRAINS))]
    first, last = 256 * numbers[1:4], 256 * numbers[4:7]
    shares = numbers[7 : 7 + side * side].reshape(side, side, 1)
    grains = (first + (last - first) * shares).astype(np.uint8)
    return crops.covering(grains, height, width)


def without_object(pixels: Pixels, mask: Mask) -> Pixels:
    """Return an image whose object is filled from what is around it.

    The image is divided into cells, of which each has the mean color of its background. A cell without any takes the
    color of the coarser cells around it, and an image without any is gray. The object gets the smoothed finest cells,
    and so do the pixels next to it, which would show its outline.
    """
    height, width = mask.shape
    reach = 2 * max(1, min(height, width) // _OUTLINE) + 1
    known = cv2.dilate(mask.view(np.uint8), np.ones((reach, reach), dtype=np.uint8)) == 0
    background = pasted(pixels, known, np.zeros_like(pixels))
    sums = cv2.integral(background, sdepth=cv2.CV_64F)  # (H + 1, W + 1, 3), exact up to 2^53
    counts = cv2.integral(known.view(np.uint8), sdepth=cv2.CV_64F)[..., None]
    cells = gray(128, 1, 1)
    for side in _FILLING:
        down, across = (np.arange(side + 1) * length // side for length in (height, width))
        of_sums, of_counts = (np.diff(np.diff(table[down][:, across], axis=0), axis=1) for table in (sums, counts))
        means = np.rint(of_sums / np.maximum(of_counts, 1)).astype(np.uint8)
        cells = np.where(of_counts > 0, means, crops.resized(cells, side))
    return pasted(pixels, known, crops.scaled(cells, height, width))
