"""Views for the networks, made from the images of a batch on the device."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl.settings.views import ViewSettings
from fgssl.views import changes, on_device
from fgssl.views.normalization import normalized, to_unit


class ViewMaker:
    """Maker of normalized views, as a function of (seed, view_key, view, row) on every process.

    It changes the colors too, unless the loader has done so on the CPU.
    """

    def __init__(
        self, settings: ViewSettings, num_views: int, seed: int, shard_size: int, dtype: torch.dtype = torch.float32
    ) -> None:
        """Color `shard_size` images at once, since the bits that a kernel computes can depend on their number."""
        self.settings, self.recipes = settings, settings.of_each(num_views)
        self._seed, self._shard_size, self._dtype = seed, shard_size, dtype

    def view(self, images: Tensor, view: int, view_key: int, rows: NDArray[np.int64]) -> Tensor:
        """Return view number `view` (n, C, H, W) of uint8 images (n, H, W, C) of dataset `rows` (n,)."""
        if self.settings.colors_on == "cpu":
            return self.original(images)
        recipe, shards = self.recipes[view], []
        for start in range(0, len(images), self._shard_size):
            part = slice(start, start + self._shard_size)
            drawn = changes.drawn(recipe, self._seed, view_key, view, rows[part])
            shards.append(self._input(on_device.changed(to_unit(images[part]), drawn, recipe)))
        return torch.cat(shards)

    def original(self, images: Tensor) -> Tensor:
        """Return uint8 images (n, H, W, C) as normalized inputs (n, C, H, W)."""
        return self._input(to_unit(images))

    def _input(self, images: Tensor) -> Tensor:
        # Channels last, like the networks, is the faster layout for convolutions on CPU and GPU.
        inputs = normalized(images, self.settings).contiguous(memory_format=torch.channels_last)
        return inputs.to(self._dtype)
