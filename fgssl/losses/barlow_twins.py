"""Barlow Twins: the cross-correlation of two views against the identity (Zbontar et al. 2021, arXiv:2103.03230)."""

import torch
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_pairs, require_two_rows

_EPSILON = 1e-5
"""Number added to the variance of a dimension, as in the BatchNorm by which the official code standardizes."""


def barlow_twins(first: Tensor, second: Tensor, redundancy_weight: float) -> Tensor:
    """Return sum_i (1 - C_ii)^2 + redundancy_weight * sum_{i != j} C_ij^2 (Zbontar et al. 2021, Eq. 1).

    C_ij is the correlation, over the batch, of dimension i of the first view with dimension j of the second (Eq. 2).

    Args:
        first: (N, D), any floating-point type, N >= 2. Each dimension is standardized here.
        second: (N, D); row i shows the same image as row i of `first`.
        redundancy_weight: Weight lambda of the correlations of different dimensions.

    Returns:
        Scalar without unit; float32, or float64 if the inputs are float64.

    Raises:
        ValueError: The shapes differ, are not (N, D), or N is 1.
        NoPositivesError: N is 0.
    """
    require_pairs(first, second)
    require_two_rows(first)
    with torch.autocast(first.device.type, enabled=False):  # autocast would take the product in half precision
        first, second = (_standardized(at_least_fp32(rows)) for rows in (first, second))
        correlation = first.T @ second / len(first)  # (D, D)
        diagonal = correlation.diagonal()
        redundancy = correlation.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + redundancy_weight * redundancy


def _standardized(rows: Tensor) -> Tensor:
    return (rows - rows.mean(dim=0)) / (rows.var(dim=0, correction=0) + _EPSILON).sqrt()
