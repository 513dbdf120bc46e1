"""The two records that cross borders: what a method is given, what it gives back."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The images of one step, or of a share or shard of it, on the device, in fp32."""

    step: int
    indices: Tensor
    """(N,) int64 dataset rows."""
    labels: Tensor
    """(N, L) int64 classes, finest level first; L is 0 for unlabeled data."""
    views: tuple[Tensor, ...]
    """The augmented views of the online branch, each (N, C, H, W), normalized; their sizes may differ."""
    original: Tensor | None
    """(N, C, H, W), resized only, normalized; None where the method needs none."""

    def __len__(self) -> int:
        return len(self.indices)

    def shards(self, size: int) -> Iterator["Batch"]:
        """Yield batches of `size` of its rows each, in order."""
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
    """The loss of the global batch and what to log beside it."""

    loss: Tensor
    """Scalar, fp32."""
    metrics: dict[str, Tensor]
    """Detached scalars."""


Embeddings = dict[str, torch.Tensor]
"""Per-image results of a method's networks by name, each (N, ...); labels may be among them."""
