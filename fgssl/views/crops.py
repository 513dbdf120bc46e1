"""Square uint8 crops of decoded images (H, W, 3), on the CPU."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from fgssl import randomness
from fgssl.settings.views import ViewSettings

_TRIES = 10
_interpolate: Callable[..., torch.Tensor] = torch._C._nn._upsample_bilinear2d_aa
"""Operation behind torch's `interpolate`, which has no argument for a tensor that takes the result."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image, in pixels; right and bottom lie outside."""


def _scaled(pixels: NDArray[np.uint8], out: NDArray[np.uint8], box: Box | None = None) -> NDArray[np.uint8]:
    """Fill `out` with pixels (H, W, 3), or with what is in a box of them: bilinear interpolation with antialiasing.

    torch computes it in integers: the bits are the same on every processor, and those of Pillow but for a rounding.
    """
    if box is not None:
        left, top, right, bottom = box
        pixels = pixels[top:bottom, left:right]
    if pixels.shape == out.shape:
        out[...] = pixels
    else:
        _interpolate(_as_tensor(pixels), out.shape[:2], False, out=_as_tensor(out))
    return out


def _empty(height: int, width: int) -> NDArray[np.uint8]:
    return np.empty((height, width, 3), dtype=np.uint8)


def _as_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Return a tensor (1, 3, H, W) over the memory of pixels (H, W, 3).

    numpy rearranges the axes, since torch hands the interpreter to another thread at each of its operations. Channels
    that are last in memory are for torch twice as fast.
    """
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None])


def resized(pixels: NDArray[np.uint8], size: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Return the whole image as (size, size, 3), in `out` if it is given."""
    return _scaled(pixels, _empty(size, size) if out is None else out)


def scaled(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the whole image as (height, width, 3)."""
    return _scaled(pixels, _empty(height, width))


def covering(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the largest middle part of an image that has the shape of (height, width, 3), in that size."""
    own_height, own_width = pixels.shape[:2]
    part_height = max(1, min(own_height, own_width * height // width))
    part_width = max(1, min(own_width, own_height * width // height))
    left, top = (own_width - part_width) // 2, (own_height - part_height) // 2
    return _scaled(pixels, _empty(height, width), (left, top, left + part_width, top + part_height))


def center_cropped(pixels: NDArray[np.uint8], shorter_side: int, size: int) -> NDArray[np.uint8]:
    """Resize the shorter side to `shorter_side` and take the middle `size` x `size`: (size, size, 3)."""
    height, width = pixels.shape[:2]
    shorter = min(width, height)
    # Rounded down, as in torchvision.
    height, width = height * shorter_side // shorter, width * shorter_side // shorter
    top, left = round((height - size) / 2), round((width - size) / 2)
    return _scaled(pixels, _empty(height, width))[top : top + size, left : left + size]


def evaluation_crop(pixels: NDArray[np.uint8], views: ViewSettings) -> NDArray[np.uint8]:
    """Return the fixed crop of an image that evaluations see: (image_size, image_size, 3)."""
    if views.evaluation_resize is not None:
        return center_cropped(pixels, views.evaluation_resize, views.image_size)
    return resized(pixels, views.image_size)


def crop_numbers(seed: int, stream: str, view_key: int, view: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return uniform numbers (N, tries, 4) that decide the crop of each image."""
    numbers = randomness.uniform(seed, f"crop/{stream}", view_key, view, rows=rows, columns=_TRIES * 4)
    return numbers.reshape(len(rows), _TRIES, 4)


def random_crop_box(width: int, height: int, numbers: NDArray[np.float64], area: tuple[float, float]) -> Box:
    """Return the box of torchvision's RandomResizedCrop.

    `area` bounds its share of the image's area; its aspect ratio is between 3/4 and 4/3. If no try of `numbers`
    (tries, 4) fits into the image, the box is in the middle, as in torchvision.
    """
    low, high = math.log(3 / 4), math.log(4 / 3)
    for share, ratio, across, down in numbers.tolist():
        crop_area = width * height * (area[0] + (area[1] - area[0]) * share)
        aspect = math.exp(low + (high - low) * ratio)
        crop_width, crop_height = round(math.sqrt(crop_area * aspect)), round(math.sqrt(crop_area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = int(across * (width - crop_width + 1)), int(down * (height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    crop_width = min(width, round(height * 4 / 3))
    crop_height = min(height, round(width * 4 / 3))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def places_around(
    boxes: NDArray[np.float32], alpha: float, seed: int, view_key: int, view: int, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return boxes (N, 4) around the objects of dataset rows (N,), and a place across and down in each, as (N, 6).

    Boxes are left, top, right and bottom as shares of the image's sides. Places in [0, 1] are drawn from
    Beta(alpha, alpha).
    """
    numbers = randomness.uniform(seed, "contrastive crop", view_key, view, rows=rows, columns=2)
    return np.concatenate([boxes, special.betaincinv(alpha, alpha, numbers)], axis=1)


def moved_into(width: int, height: int, crop: Box, place: NDArray[np.float64]) -> Box:
    """Return a crop of an image with its center moved to one of the `places_around` (6,), as in ContrastiveCrop.

    Both ends of the box are moved so far into the image that the crop fits there (Peng et al. 2022, official code).
    """
    left, top, right, bottom, across, down = place.tolist()
    crop_width, crop_height = crop[2] - crop[0], crop[3] - crop[1]
    new_left = _first_pixel(width, crop_width, left, right, across)
    new_top = _first_pixel(height, crop_height, top, bottom, down)
    return new_left, new_top, new_left + crop_width, new_top + crop_height


def _first_pixel(length: int, crop_length: int, first: float, last: float, place: float) -> int:
    """Return where a crop begins along one side of an image, from both ends of the box and the place between them."""
    low, high = (min(max(int(length * end) - crop_length // 2, 0), length - crop_length) for end in (first, last))
    return low + int((high - low) * place)


def random_resized_crop(
    pixels: NDArray[np.uint8],
    numbers: NDArray[np.float64],
    area: tuple[float, float],
    size: int,
    out: NDArray[np.uint8] | None = None,
    place: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """Return a random crop of the image, resized to (size, size, 3), in `out` if it is given.

    With a `place` (6,), the crop lies around the image's object.
    """
    height, width = pixels.shape[:2]
    crop = random_crop_box(width, height, numbers, area)
    box = crop if place is None else moved_into(width, height, crop, place)
    return _scaled(pixels, _empty(size, size) if out is None else out, box)
