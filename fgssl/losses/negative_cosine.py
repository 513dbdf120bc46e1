"""Negative cosine similarity (Chen and He 2021, SimSiam, Eq. 1)."""

import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_pairs


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean of -cos(prediction, target) over the rows of both, (N, D); a scalar in [-1, 1], fp32 or finer.

    The gradient reaches both: a target that is to stay fixed comes detached. BYOL's loss is 2 + 2 times this one.

    Raises:
        ValueError: shapes that differ; `NoPositivesError`, if N = 0.
    """
    require_pairs(prediction, target)
    prediction, target = (F.normalize(at_least_fp32(rows), dim=1) for rows in (prediction, target))
    return -(prediction * target).sum(dim=1).mean()
