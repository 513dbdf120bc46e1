"""Negative cosine similarity (Chen and He 2021, SimSiam, Eq. 1)."""

import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_pairs


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean negative cosine similarity of paired rows (Chen and He 2021, SimSiam, Eq. 1).

    BYOL's squared distance of unit vectors is 2 + 2 times this loss (Grill et al. 2020, Eq. 2).

    Args:
        prediction: (N, D), any floating-point type; l2-normalized here.
        target: (N, D); row i belongs to `prediction` row i. The gradient reaches it too, so detach it for a
            stop-gradient.

    Returns:
        Scalar in [-1, 1], a cosine without unit; float32, or float64 if the inputs are float64.

    Raises:
        ValueError: The shapes differ, or are not (N, D).
        NoPositivesError: N is 0.
    """
    require_pairs(prediction, target)
    prediction, target = (F.normalize(at_least_fp32(rows), dim=1) for rows in (prediction, target))
    return -(prediction * target).sum(dim=1).mean()
