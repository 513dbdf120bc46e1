"""Low-variance noise: large in dimensions of low spread over a bank of features (*Synthesized Pairs*, Eq. 6)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.settings.noise import QuantileThreshold

REFERENCE_ROWS = 1024
"""Number of bank rows for which tau is given; the spread of another bank is scaled to it."""


def spread(bank: Tensor, statistic: str, normalization: str) -> Tensor:
    """Return the spread (D,) of every dimension of `bank` (K, D).

    With `column` normalization each column has unit norm, so its standard deviation is at most 1/sqrt(K). It is scaled
    by sqrt(K / 1024), so that tau means the same for every K. A column of zeros has spread 0.
    """
    rows = len(bank)
    if normalization == "column":
        bank = F.normalize(bank, dim=0) * math.sqrt(rows / REFERENCE_ROWS)
    elif normalization == "row":
        bank = F.normalize(bank, dim=1)
    variance = bank.var(dim=0, correction=0)
    return variance.sqrt() if statistic == "std" else variance


def low_variance_dimensions(spread: Tensor, threshold: float | QuantileThreshold) -> Tensor:
    """Return a mask (D,) of the dimensions whose spread is below the threshold tau; tau = inf selects all.

    A quantile selects its share of the dimensions instead, those of the lowest spread.
    """
    if not isinstance(threshold, QuantileThreshold):
        return spread < threshold
    low = torch.zeros_like(spread, dtype=torch.bool)
    low[spread.argsort(stable=True)[: round(threshold.quantile * len(spread))]] = True
    return low


def low_variance_deviation(spread: Tensor, low: Tensor, sigma: float | Tensor) -> Tensor:
    """Return the standard deviation (D,) of each dimension's noise, Eq. 6: sigma (1 - v~) where `low`, else 0.

    v~ is the spread scaled to [0, 1] by min-max over all D dimensions. If all are equal, v~ is 1 and there is no noise.
    """
    bottom, top = spread.aminmax()
    scaled = torch.where(bottom == top, torch.ones_like(spread), (spread - bottom) / (top - bottom))
    return sigma * (1 - scaled) * low
