"""Centering and scaling of features by one number, which makes encoders comparable whatever their scale is."""

from dataclasses import dataclass

import torch
from torch import Tensor

IMAGES_AT_ONCE = 4096
"""Rows that are converted to double precision at a time; no result depends on it beyond rounding."""


@dataclass(frozen=True)
class Scaling:
    """Shift and scale of features, which change neither their directions from the mean nor ratios of distances."""

    mean: Tensor
    """(D,) mean of the features."""
    distance: float
    """Root mean square distance of the features to their mean; 1 if they are all equal."""

    @classmethod
    def of(cls, features: Tensor) -> "Scaling":
        """Return the scaling after which features (N, D) have mean 0 and root mean square distance 1 from it."""
        chunks = features.split(IMAGES_AT_ONCE)
        mean = torch.stack([chunk.sum(dim=0, dtype=torch.float64) for chunk in chunks]).sum(dim=0) / len(features)
        squares = sum(float((chunk.double() - mean).square_().sum()) for chunk in chunks)
        return cls(mean.to(features.dtype), (squares / len(features)) ** 0.5 or 1.0)

    def __call__(self, features: Tensor) -> Tensor:
        """Return features (n, D), centered and scaled."""
        return (features - self.mean) / self.distance
