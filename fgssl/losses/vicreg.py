"""VICReg: invariance, variance and covariance of embeddings (Bardes et al. 2022, arXiv:2105.04906)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_pairs, require_two_rows

_EPSILON = 1e-4
"""Number that keeps the gradient of a standard deviation finite (Eq. 2)."""


def vicreg_terms(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three terms of VICReg, to be weighted and summed (Bardes et al. 2022, Eq. 6).

    The invariance s is the mean squared difference of paired rows. The variance v is the mean distance by which the
    standard deviation of a dimension falls short of 1 (Eq. 1). The covariance c is the sum of the squared covariances
    of different dimensions, divided by D (Eq. 4). The terms are scaled as in the official code: s is a mean over
    dimensions too, where Eq. 5 sums them, v is the mean over both views, and c is the sum over both.

    Args:
        first: (N, D), any floating-point type, N >= 2. Rows are not normalized: their length matters.
        second: (N, D); row i shows the same image as row i of `first`.

    Returns:
        Scalars s, v and c; float32, or float64 if the inputs are float64.

    Raises:
        ValueError: The shapes differ, are not (N, D), or N is 1.
        NoPositivesError: N is 0.
    """
    require_pairs(first, second)
    require_two_rows(first)
    with torch.autocast(first.device.type, enabled=False):  # autocast would take the products in half precision
        first, second = at_least_fp32(first), at_least_fp32(second)
        variance = (_variance_term(first) + _variance_term(second)) / 2
        return F.mse_loss(first, second), variance, _covariance_term(first) + _covariance_term(second)


def _variance_term(rows: Tensor) -> Tensor:
    return F.relu(1 - (rows.var(dim=0) + _EPSILON).sqrt()).mean()


def _covariance_term(rows: Tensor) -> Tensor:
    centered = rows - rows.mean(dim=0)
    covariance = centered.T @ centered / (len(rows) - 1)  # (D, D)
    squares = covariance.square()
    return (squares.sum() - squares.diagonal().sum()) / rows.shape[1]
