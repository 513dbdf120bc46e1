"""Boxes around the objects of all training images, for ContrastiveCrop (Peng et al. 2022, arXiv:2202.03278)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fgssl.settings.views import ContrastiveCropSettings

Boxes = NDArray[np.float32]
"""Left, top, right and bottom of each image's box (images, 4), as shares of the image's width and height."""
MIDDLE = np.array([0.25, 0.25, 0.75, 0.75], dtype=np.float32)
"""Box of SimCCrop: the middle half of the width and of the height."""


@dataclass
class CropBoxes:
    """Boxes that are searched anew at the start of some epochs; None before the first search."""

    settings: ContrastiveCropSettings
    steps_per_epoch: int
    search: Callable[[], Tensor] | None
    """Function that returns the boxes (images, 4) by the encoder as it is, called by all processes; None if the boxes
    stay."""
    boxes: Boxes | None = None

    def periods(self, steps: range) -> Iterator[range]:
        """Yield the steps in parts with the same boxes, and search for those of a part before it is yielded."""
        if self.search is None:
            yield steps
            return
        start = steps.start
        while start < steps.stop:
            if self._due(start):
                self.boxes = self.search().cpu().numpy()
            end = min(self._next_due(start), steps.stop)
            yield range(start, end)
            start = end

    def _due(self, step: int) -> bool:
        epoch, within = divmod(step, self.steps_per_epoch)
        since = epoch - self.settings.warm_up_epochs
        return within == 0 and since >= 0 and since % self.settings.every_epochs == 0

    def _next_due(self, step: int) -> int:
        searches = (step // self.steps_per_epoch - self.settings.warm_up_epochs) // self.settings.every_epochs + 1
        epoch = self.settings.warm_up_epochs + max(searches, 0) * self.settings.every_epochs
        return epoch * self.steps_per_epoch


def boxes_of_activations(maps: Tensor, threshold: float, size: int) -> Tensor:
    """Return the boxes (N, 4) of feature maps (N, C, H, W).

    The sum over the channels is scaled to [0, 1] and to `size` x `size`. A box reaches from the first to the last row
    and column with a value above `threshold`. It is the whole image if all values are the same or not finite.
    """
    sums = maps.sum(dim=1, keepdim=True)  # (N, 1, H, W)
    low, high = sums.amin(dim=(2, 3), keepdim=True), sums.amax(dim=(2, 3), keepdim=True)
    scaled = (sums - low) / (high - low)  # NaN if all are the same
    inside = F.interpolate(scaled, size=(size, size), mode="bilinear")[:, 0] > threshold  # (N, size, size)
    ends = [_ends(inside.any(dim=1)), _ends(inside.any(dim=2))]  # across, then down
    boxes = torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], dim=1) / size
    whole = torch.tensor((0.0, 0.0, 1.0, 1.0), device=boxes.device)
    return torch.where(inside.any(dim=(1, 2))[:, None], boxes, whole).float()


def _ends(inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last place (N,) at which a mask (N, L) holds."""
    mask = inside.to(torch.uint8)  # its argmax is the first largest on every device
    return mask.argmax(dim=1), mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
