"""Changes of the colors of whole batches on the device; pixels are floats in [0, 1].

Every operation is done to all images of a batch, with parameters by which it leaves some as they are. So the host sends
one small table per view, gathers nothing and waits for nothing.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fgssl.settings.views import ViewRecipe
from fgssl.upload import upload
from fgssl.views.changes import GRAY, Changes
from fgssl.views.normalization import by_channel


def changed(images: Tensor, changes: Changes, recipe: ViewRecipe) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] after their changes."""
    number, blends = len(images), changes.blends.reshape(len(images), -1)
    others = [changes.turns, changes.sigma, changes.gray, changes.solarized, changes.flipped]
    table = upload(np.column_stack([blends, *others]).astype(np.float32), images.device)  # (N, 23)
    parameters = table[:, :18].view(number, 2, 3, 3, 1, 1, 1)
    turns, sigma, gray, solarized, flipped = table[:, 18:, None, None, None].unbind(dim=1)
    images = _blended(images, parameters[:, 0], changes.blends[:, 0])
    if changes.turns.any():
        images = torch.where(turns == 0, images, hue(images, turns))
    images = _blended(images, parameters[:, 1], changes.blends[:, 1])
    if changes.gray.any():
        images = torch.where(gray == 0, images, grayscale(images))
    if changes.sigma.any():
        images = gaussian_blur(images, sigma.flatten(), recipe.blur_sigma[1])
    if changes.solarized.any():
        inverted = (solarized != 0) & (images >= recipe.solarize_threshold)
        images = torch.where(inverted, 1 - images, images)
    if changes.flipped.any():
        images = torch.where(flipped == 0, images, images.flip(-1))
    return images


def _blended(images: Tensor, parameters: Tensor, on_host: NDArray[np.float32]) -> Tensor:
    """Return images after the three blends (N, 3, 3, 1, 1, 1) on one side of the hue."""
    for place in range(3):
        if (on_host[:, place, 0] != 1).any():
            factor, of_mean, of_gray = parameters[:, place].unbind(dim=1)
            images = blended(images, factor, of_mean, of_gray)
    return images


def grayscale(images: Tensor) -> Tensor:
    """Return gray images (N, 1, H, W) of images (N, 3, H, W)."""
    return (images * by_channel(GRAY, images.device)).sum(dim=1, keepdim=True)


def blended(images: Tensor, factor: Tensor, of_mean: Tensor, of_gray: Tensor) -> Tensor:
    """Return images (N, C, H, W) after the blend of `Changes.blends`; parameters are (N, 1, 1, 1)."""
    gray = grayscale(images)
    other = of_mean * gray.mean(dim=(2, 3), keepdim=True) + of_gray * gray
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Return the images with their hue shifted in HSV by `turns` (N, 1, 1, 1), in [-0.5, 0.5]."""
    top, which = images.max(dim=1, keepdim=True)
    chroma = top - images.amin(dim=1, keepdim=True)
    safe = chroma.masked_fill(chroma == 0, 1)
    red, green, blue = ((top - images) / safe).split(1, dim=1)  # distance of each channel from the top
    sextant = torch.where(which == 0, blue - green, torch.where(which == 1, 2 + red - blue, 4 + green - red))
    angle = (sextant / 6 + turns) % 1  # (N, 1, H, W)
    # Channel n of HSV -> RGB is V - V S max(0, min(k, 4 - k, 1)), k = (n + 6 H) mod 6.
    position = (by_channel((5.0, 3.0, 1.0), images.device) + 6 * angle) % 6
    return (top - chroma * torch.minimum(position, 4 - position).clamp(0, 1)).clamp(0, 1)


def gaussian_blur(images: Tensor, sigma: Tensor, largest_sigma: float) -> Tensor:
    """Blur each image with its own sigma (N,), in pixels; the kernel reaches three times the largest sigma."""
    number, channels, height, width = images.shape
    radius = min(math.ceil(3 * largest_sigma), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)  # sigma 0: all weight in the middle
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    planes = padded.reshape(1, number * channels, *padded.shape[2:])
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=number * channels)
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=number * channels)
    return planes.reshape(number, channels, height, width)
