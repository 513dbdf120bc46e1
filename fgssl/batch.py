"""Records that a method takes and returns."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images of one step, of a process's share of it or of a shard of this share, on the device."""

    step: int
    indices: Tensor
    """Dataset rows (N,), int64."""
    labels: Tensor
    """Classes (N, L), int64, finest level first; L is 0 for unlabeled data."""
    views: tuple[Tensor, ...]
    """Augmented and normalized views of the online branch, each (N, C, H, W); their sizes may differ."""
    original: Tensor | None
    """Normalized images (N, C, H, W) that are only resized; None unless the method needs them."""

    def __len__(self) -> int:
        return len(self.indices)

    def shards(self, size: int) -> Iterator["Batch"]:
        """Yield batches of `size` consecutive images each; the last one may be smaller."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield Batch(
                step=self.step,
                indices=self.indices[rows],
                labels=self.labels[rows],
                views=tuple(view[rows] for view in self.views),
                original=None if self.original is None else self.original[rows],
            )


@dataclass(frozen=True)
class Output:
    """Loss of the global batch, and metrics to log."""

    loss: Tensor
    """Scalar, float32 or float64."""
    metrics: dict[str, Tensor]
    """Detached scalars by name."""


Embeddings = dict[str, torch.Tensor]
"""Results of a method's networks per image, by name, each (N, ...); labels may be among them."""
