"""Measures of how close vectors are to collapse. They are not losses, so no gradient flows through them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses import at_least_fp32

ROUNDING = 1e-14
"""Share of the largest squared singular value below which another one is rounding, and counts as zero. Singular values
that are kept are 1e-7 of the largest or more, about the resolution of float32."""


@torch.no_grad()
def normalized_std(vectors: Tensor) -> Tensor:
    """Return the spread of the directions of vectors (N, D), a scalar: 1 if they spread evenly, 0 if all are the same.

    It is the standard deviation over the N l2-normalized vectors, averaged over the D dimensions, times sqrt(D).
    Chen and He (2021, SimSiam, Sec. 4.1, Fig. 2) plot it without this factor, and compare it with 1/sqrt(D).

    Raises:
        ValueError: `vectors` is not (N, D), or it is empty.
    """
    _require_rows(vectors)
    rows = F.normalize(at_least_fp32(vectors), dim=1)
    return rows.std(dim=0, correction=0).mean() * math.sqrt(rows.shape[1])


@torch.no_grad()
def effective_rank(vectors: Tensor) -> Tensor:
    """Return the effective number of dimensions in which vectors (N, D) vary, a scalar in float64.

    It is the exponential of the entropy of the shares that the singular values of the centered vectors have in their
    sum (Roy and Vetterli 2007, *The effective rank: a measure of effective dimensionality*). It lies in
    [1, min(N - 1, D)], except that it is 0 if all vectors (or the only one) are equal up to the rounding of their type.

    Raises:
        ValueError: `vectors` is not (N, D), it is empty, or it holds NaN or infinity.
    """
    _require_rows(vectors)
    rows = vectors.double()
    if not rows.isfinite().all():
        raise ValueError("vectors hold values that are not finite, which have no rank")
    rows_from_first = rows - rows[0]  # equal rows become exact zeros, whatever the rounding of the mean is
    centered = rows_from_first - rows_from_first.mean(dim=0)
    if centered.norm() <= torch.finfo(vectors.dtype).eps * rows.norm():
        return rows.new_zeros(())
    if rows.shape[0] > rows.shape[1]:
        centered = centered.T
    # Eigenvalues of the smaller product of the vectors take a third of the time of singular values of the vectors.
    eigenvalues = torch.linalg.eigvalsh(centered @ centered.T)
    singular = eigenvalues.where(eigenvalues > ROUNDING * eigenvalues[-1], 0).sqrt()
    shares = singular / singular.sum()
    return torch.special.entr(shares).sum().exp()  # entr: -p log p, 0 at p = 0


def _require_rows(vectors: Tensor) -> None:
    if vectors.ndim != 2 or not vectors.numel():
        raise ValueError(f"vectors of shape {tuple(vectors.shape)}: must be (N, D) with N and D at least 1")
