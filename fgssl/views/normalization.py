"""Scaling and normalization of uint8 images, the inputs of networks."""

import functools

import torch
from torch import Tensor

from fgssl.settings.views import ViewSettings


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 images (N, H, W, C) as floats (N, C, H, W) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def normalized(images: Tensor, settings: ViewSettings) -> Tensor:
    """Return pixels minus the mean, over the standard deviation, channel by channel."""
    return (images - by_channel(settings.mean, images.device)) / by_channel(settings.std, images.device)


@functools.cache
def by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return constants (1, C, 1, 1); they are cached, since each new one would be a copy for which the host waits."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)
