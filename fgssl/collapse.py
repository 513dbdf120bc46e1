"""How near a set of vectors is to collapse: numbers to look at, not losses; they carry no gradient."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses import at_least_fp32


@torch.no_grad()
def normalized_std(vectors: Tensor) -> Tensor:
    """Return the spread of the directions of vectors (N, D): a scalar, 1 if they spread evenly, 0 if all are the same.

    The standard deviation over the N l2-normalized vectors, mean over the D dimensions, times sqrt(D) (Chen and He
    2021, SimSiam, Sec. 4.1 and Fig. 2, which shows it beside 1/sqrt(D)).

    Raises:
        ValueError: not (N, D), or N = 0.
    """
    _require_rows(vectors)
    rows = F.normalize(at_least_fp32(vectors), dim=1)
    return rows.std(dim=0, correction=0).mean() * math.sqrt(rows.shape[1])


@torch.no_grad()
def effective_rank(vectors: Tensor) -> Tensor:
    """Return the effective number of dimensions that vectors (N, D) vary in: a float64 in [1, min(N - 1, D)], or 0.

    exp of the entropy of the centered vectors' singular values, divided by their sum (Roy and Vetterli 2007, *The
    effective rank: a measure of effective dimensionality*). It is 0 where the vectors do not vary: all equal, up to
    the rounding of their type.

    Raises:
        ValueError: not (N, D), N = 0, or a value that is not finite.
    """
    _require_rows(vectors)
    rows = vectors.double()
    if not rows.isfinite().all():
        raise ValueError("vectors hold values that are not finite, which have no rank")
    rows_from_first = rows - rows[0]  # equal rows become zeros, which no rounding of the mean can move
    centered = rows_from_first - rows_from_first.mean(dim=0)
    if centered.norm() <= torch.finfo(vectors.dtype).eps * rows.norm():
        return rows.new_zeros(())
    singular = torch.linalg.svdvals(centered)
    shares = singular / singular.sum()
    return torch.special.entr(shares).sum().exp()  # entr: -p log p, 0 at p = 0


def _require_rows(vectors: Tensor) -> None:
    if vectors.ndim != 2 or not vectors.numel():
        raise ValueError(f"vectors of shape {tuple(vectors.shape)}: must be (N, D), at least one row")
