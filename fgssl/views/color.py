"""Color, blur, flip and normalization of whole batches, on the device; pixels are floats in [0, 1].

Each operation computes what torchvision's of the same name does, with a factor per image.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fgssl import randomness
from fgssl.settings.views import ViewRecipe, ViewSettings


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 images (N, H, W, C) as floats (N, C, H, W) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def normalized(images: Tensor, settings: ViewSettings) -> Tensor:
    """Return pixels minus the mean, over the standard deviation, channel by channel."""
    mean = torch.tensor(settings.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(settings.std, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / std


def augmented(
    images: Tensor, recipe: ViewRecipe, seed: int, view_key: int, view: int, rows: NDArray[np.int64]
) -> Tensor:
    """Return one view of images (N, C, H, W) in [0, 1]: jitter, gray, blur, solarize and flip, in this order.

    A function of (seed, view_key, view, row): who computes it, and with which others in a batch, changes nothing.
    """
    numbers = torch.from_numpy(randomness.uniform(seed, "colour", view_key, view, rows=rows, columns=14)).float()
    jittered, gray, blurred, flipped = (numbers[:, column] for column in range(4))
    factors, order, sigma, solarized = numbers[:, 4:8], numbers[:, 8:12], numbers[:, 12], numbers[:, 13]
    images = images.clone()

    chosen = torch.nonzero(jittered < recipe.jitter_probability)[:, 0]
    if len(chosen):
        images[chosen] = color_jitter(images[chosen], factors[chosen], order[chosen], recipe)
    chosen = torch.nonzero(gray < recipe.gray_probability)[:, 0]
    if len(chosen):
        images[chosen] = grayscale(images[chosen]).expand(-1, 3, -1, -1)
    chosen = torch.nonzero(blurred < recipe.blur_probability)[:, 0]
    if len(chosen):
        low, high = recipe.blur_sigma
        images[chosen] = gaussian_blur(images[chosen], low + (high - low) * sigma[chosen], high)
    chosen = torch.nonzero(solarized < recipe.solarize_probability)[:, 0]
    if len(chosen):
        images[chosen] = solarize(images[chosen], recipe.solarize_threshold)
    if recipe.horizontal_flip:
        chosen = torch.nonzero(flipped < 0.5)[:, 0]
        images[chosen] = images[chosen].flip(-1)
    return images


def randomly_flipped(images: Tensor, seed: int, epoch: int, rows: NDArray[np.int64]) -> Tensor:
    """Mirror each image left to right with probability 0.5, a function of (seed, epoch, row)."""
    numbers = torch.from_numpy(randomness.uniform(seed, "flip", epoch, rows=rows, columns=1)[:, 0])
    flipped = (numbers < 0.5).to(images.device).view(-1, 1, 1, 1)
    return torch.where(flipped, images.flip(-1), images)


def color_jitter(images: Tensor, factors: Tensor, order: Tensor, recipe: ViewRecipe) -> Tensor:
    """Change brightness, contrast, saturation and hue, each image in its own random order.

    `factors` (N, 4) uniform numbers for the strengths; `order` (N, 4), sorted, says which operation comes when.
    """
    strengths = torch.tensor([recipe.brightness, recipe.contrast, recipe.saturation])
    low = (1 - strengths).clamp_min(0)
    scales = low + (1 + strengths - low) * factors[:, :3]  # (N, 3)
    turns = (2 * factors[:, 3] - 1) * recipe.hue  # (N,)
    operations = order.argsort(dim=1)  # (N, 4): the operation at each place
    images = images.clone()
    for place in range(4):
        for operation, adjust in enumerate((brightness, contrast, saturation, hue)):
            chosen = torch.nonzero(operations[:, place] == operation)[:, 0]
            if len(chosen):
                factor = turns[chosen] if adjust is hue else scales[chosen, operation]
                images[chosen] = adjust(images[chosen], factor.to(images.device).view(-1, 1, 1, 1))
    return images


def grayscale(images: Tensor) -> Tensor:
    """Return (N, 1, H, W) of (N, 3, H, W) by ITU-R 601 weights as torchvision has them."""
    red, green, blue = images.unbind(dim=1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
    return (factor * images + (1 - factor) * mean).clamp(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    return (factor * images + (1 - factor) * grayscale(images)).clamp(0, 1)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Shift the hue by `turns` in HSV; (N, 1, 1, 1) in [-0.5, 0.5]."""
    top, which = images.max(dim=1, keepdim=True)
    chroma = top - images.amin(dim=1, keepdim=True)
    safe = chroma.masked_fill(chroma == 0, 1)
    red, green, blue = ((top - images) / safe).split(1, dim=1)  # distance of each channel from the top
    sextant = torch.where(which == 0, blue - green, torch.where(which == 1, 2 + red - blue, 4 + green - red))
    angle = (sextant / 6 + turns) % 1  # (N, 1, H, W)
    # Channel n of HSV -> RGB is V - V S max(0, min(k, 4 - k, 1)), k = (n + 6 H) mod 6.
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    position = (offsets + 6 * angle) % 6
    return (top - chroma * torch.minimum(position, 4 - position).clamp(0, 1)).clamp(0, 1)


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Return the images with their pixels inverted from `threshold` on."""
    return torch.where(images >= threshold, 1 - images, images)


def gaussian_blur(images: Tensor, sigma: Tensor, largest_sigma: float) -> Tensor:
    """Blur each image with its own sigma (N,), pixels; the kernel reaches three of the largest."""
    number, channels, height, width = images.shape
    radius = min(math.ceil(3 * largest_sigma), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(images.device).repeat_interleave(channels, dim=0)
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    planes = padded.reshape(1, number * channels, *padded.shape[2:])
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=number * channels)
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=number * channels)
    return planes.reshape(number, channels, height, width)
