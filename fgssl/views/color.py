"""Color, blur, flip and normalization of whole batches on the device; pixels are floats in [0, 1].

Each operation computes the same as torchvision's of that name, with a factor per image. The images to change and their
factors are chosen on the host and uploaded: if the device counted them, the host would have to wait for it.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fgssl import randomness
from fgssl.settings.views import ViewRecipe, ViewSettings
from fgssl.upload import upload


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 images (N, H, W, C) as floats (N, C, H, W) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def normalized(images: Tensor, settings: ViewSettings) -> Tensor:
    """Return pixels minus the mean, over the standard deviation, channel by channel."""
    return (images - _by_channel(settings.mean, images.device)) / _by_channel(settings.std, images.device)


@functools.cache
def _by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return constants (1, C, 1, 1); they are cached, since each new one would be a copy for which the host waits."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


def augmented(
    images: Tensor, recipe: ViewRecipe, seed: int, view_key: int, view: int, rows: NDArray[np.int64]
) -> Tensor:
    """Return one view of images (N, C, H, W) in [0, 1]: jitter, gray, blur, solarize and flip, in this order.

    The view is a function of (seed, view_key, view, row), independent of the process and of the other images in the
    batch.
    """
    numbers = torch.from_numpy(randomness.uniform(seed, "colour", view_key, view, rows=rows, columns=14)).float()
    jittered, gray, blurred, flipped = (numbers[:, column] for column in range(4))
    factors, order, sigma, solarized = numbers[:, 4:8], numbers[:, 8:12], numbers[:, 12], numbers[:, 13]

    def jitter(chosen: Tensor, some: Tensor) -> Tensor:
        return color_jitter(some, factors[chosen], order[chosen], recipe)

    def gray_in_color(chosen: Tensor, some: Tensor) -> Tensor:
        return grayscale(some).expand(-1, 3, -1, -1)

    def blur(chosen: Tensor, some: Tensor) -> Tensor:
        low, high = recipe.blur_sigma
        return gaussian_blur(some, low + (high - low) * sigma[chosen], high)

    images = images.contiguous()  # the layout that most of the operations below return
    images = _changed(images, jittered < recipe.jitter_probability, jitter)
    images = _changed(images, gray < recipe.gray_probability, gray_in_color)
    images = _changed(images, blurred < recipe.blur_probability, blur)
    images = _changed(
        images, solarized < recipe.solarize_probability, lambda _, some: solarize(some, recipe.solarize_threshold)
    )
    if recipe.horizontal_flip:
        images = _changed(images, flipped < 0.5, lambda _, some: some.flip(-1))
    return images


def _changed(images: Tensor, wanted: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return images (N, C, H, W) in which those that are `wanted`, (N,) bool on the host, are changed.

    `change` gets their positions (on the host) and the images themselves.
    """
    chosen = torch.nonzero(wanted)[:, 0]
    if not len(chosen):
        return images
    source = torch.arange(len(images))  # place of each result in the old images followed by the changed ones
    source[chosen] = len(images) + torch.arange(len(chosen))
    on_device = upload(torch.cat([chosen, source]), images.device)
    changed = change(chosen, images[on_device[: len(chosen)]])
    return torch.cat([images, changed])[on_device[len(chosen) :]]


def randomly_flipped(images: Tensor, seed: int, epoch: int, rows: NDArray[np.int64]) -> Tensor:
    """Mirror each image left to right with probability 0.5, a function of (seed, epoch, row)."""
    numbers = torch.from_numpy(randomness.uniform(seed, "flip", epoch, rows=rows, columns=1)[:, 0])
    flipped = upload(numbers < 0.5, images.device).view(-1, 1, 1, 1)
    return torch.where(flipped, images.flip(-1), images)


def color_jitter(images: Tensor, factors: Tensor, order: Tensor, recipe: ViewRecipe) -> Tensor:
    """Change brightness, contrast, saturation and hue, for each image in its own random order.

    `factors` (N, 4) are uniform numbers for the strengths. Sorting `order` (N, 4) gives the order of the operations.
    Both lie on the host.
    """
    strengths = torch.tensor([recipe.brightness, recipe.contrast, recipe.saturation])
    low = (1 - strengths).clamp_min(0)
    scales = low + (1 + strengths - low) * factors[:, :3]  # (N, 3)
    turns = (2 * factors[:, 3] - 1) * recipe.hue  # (N,)
    operations = order.argsort(dim=1)  # (N, 4): the operation at each place
    amounts = torch.cat([scales, turns[:, None]], dim=1)  # (N, 4)
    indices, factors_in_place, counts = [], [], []
    lies_at = torch.arange(len(images))  # place of each image, as images are sorted by operation at each turn
    for operation in operations.T:
        by_operation = operation.argsort(stable=True)
        indices.append(lies_at[by_operation])
        factors_in_place.append(amounts[by_operation, operation[by_operation]])
        counts.append(operation.bincount(minlength=4).tolist())
        lies_at = by_operation.argsort()
    *sorting, back = upload(torch.stack([*indices, lies_at]), images.device)
    uploaded = upload(torch.stack(factors_in_place), images.device).view(4, -1, 1, 1, 1)
    for index, factor, lengths in zip(sorting, uploaded, counts, strict=True):
        parts = zip(_JITTER, images[index].split(lengths), factor.split(lengths), strict=True)
        images = torch.cat([adjust(some, by) for adjust, some, by in parts if len(some)])
    return images[back]


def grayscale(images: Tensor) -> Tensor:
    """Return gray images (N, 1, H, W) of images (N, 3, H, W), with torchvision's ITU-R 601 weights."""
    red, green, blue = images.unbind(dim=1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Return the images times `factor`, clamped to [0, 1]."""
    return (images * factor).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Return the images blended with their mean gray; factor 0 is gray, 1 leaves them unchanged."""
    mean = grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
    return (factor * images + (1 - factor) * mean).clamp(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Return the images blended with their grayscale; factor 0 is gray, 1 leaves them unchanged."""
    return (factor * images + (1 - factor) * grayscale(images)).clamp(0, 1)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Return the images with their hue shifted in HSV by `turns` (N, 1, 1, 1), in [-0.5, 0.5]."""
    top, which = images.max(dim=1, keepdim=True)
    chroma = top - images.amin(dim=1, keepdim=True)
    safe = chroma.masked_fill(chroma == 0, 1)
    red, green, blue = ((top - images) / safe).split(1, dim=1)  # distance of each channel from the top
    sextant = torch.where(which == 0, blue - green, torch.where(which == 1, 2 + red - blue, 4 + green - red))
    angle = (sextant / 6 + turns) % 1  # (N, 1, H, W)
    # Channel n of HSV -> RGB is V - V S max(0, min(k, 4 - k, 1)), k = (n + 6 H) mod 6.
    position = (_by_channel((5.0, 3.0, 1.0), images.device) + 6 * angle) % 6
    return (top - chroma * torch.minimum(position, 4 - position).clamp(0, 1)).clamp(0, 1)


_JITTER = (brightness, contrast, saturation, hue)
"""Operations of `color_jitter` by their number."""


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Return the images with all pixels of at least `threshold` inverted."""
    return torch.where(images >= threshold, 1 - images, images)


def gaussian_blur(images: Tensor, sigma: Tensor, largest_sigma: float) -> Tensor:
    """Blur each image with its own sigma (N,), in pixels; the kernel reaches three times the largest sigma."""
    number, channels, height, width = images.shape
    radius = min(math.ceil(3 * largest_sigma), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    kernel = upload(kernel, images.device)
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    planes = padded.reshape(1, number * channels, *padded.shape[2:])
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=number * channels)
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=number * channels)
    return planes.reshape(number, channels, height, width)
