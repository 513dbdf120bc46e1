"""Statistics of a few seeds: t intervals, paired t tests, Holm's correction, equivalence, and what n seeds can show.

With 3 to 5 seeds, Student's t is the right tool if runs are about normal: a nominal 95 % bootstrap interval of 3 normal
values covers 75 %, and no rank test of 3 pairs falls below p = 0.25.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
ROUNDING = 1e-9
"""Difference of two measures, in percent or images, below which they are equal."""
POWER = 0.8
"""Probability with which a difference of the smallest size that n pairs can show is found."""


@dataclass(frozen=True)
class Estimate:
    """Mean of n values with its spread; a number that needs more values, or a spread, is nan."""

    n: int
    mean: float
    std: float
    """Standard deviation of the values, with n - 1 in the denominator."""
    low: float
    """Lower end of the 95 % t interval of the mean."""
    high: float
    """Upper end of it."""
    p: float
    """Probability of a mean at least as far from 0, if the true one is 0: two-sided t test. Of differences paired by
    seed, it is the paired t test."""


def estimate(values: ArrayLike) -> Estimate:
    """Return mean, spread, t interval and t test of values (n,).

    Values that differ by less than `ROUNDING` are equal. They show no spread, so nothing can be tested: differences of
    shares, such as 69.67 - 69.33, are rarely equal to the last bit, and a spread of rounding would prove anything.
    """
    found: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    n = len(found)
    mean = float(found.mean()) if n else math.nan
    if n < 2 or np.ptp(found) < ROUNDING:
        return Estimate(n, mean, 0.0 if n > 1 else math.nan, math.nan, math.nan, math.nan)
    std = float(found.std(ddof=1))
    error = std / math.sqrt(n)
    half = error * _critical(n, 1)
    return Estimate(n, mean, std, mean - half, mean + half, 2 * _tail(abs(mean) / error, n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for all comparisons of a family (Holm 1979); nan stays nan, but counts as a comparison.

    The chance that any of the adjusted values is below .05 by luck alone is at most .05.
    """
    adjusted, largest = [math.nan] * len(p_values), 0.0
    order = sorted((number for number, p in enumerate(p_values) if not math.isnan(p)), key=p_values.__getitem__)
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = largest
    return adjusted


def equivalence(differences: ArrayLike, margin: float) -> float:
    """Return the p value of the claim that the mean of differences (n,) lies within ± `margin`.

    It is the larger one of two one-sided t tests (Schuirmann 1987), and nan for fewer than two values or no spread.
    """
    found = estimate(differences)
    if not found.std > 0:
        return math.nan
    error = found.std / math.sqrt(found.n)
    return max(_tail((margin + side * found.mean) / error, found.n) for side in (1, -1))


def smallest_difference(std: float, n: int, comparisons: int = 1) -> float:
    """Return the difference that n pairs find with probability `POWER`, in the unit of `std`.

    `std` is the standard deviation of the differences. The test is the two-sided paired t test at .05 over the number
    of comparisons in the family, the hardest step of Holm's. It is nan for n < 2, or without a spread.
    """
    if n < 2 or not std > 0:
        return math.nan
    return std * _smallest_effect(n, comparisons)


@functools.cache  # a table asks for few pairs of these numbers, once for each entry
def _smallest_effect(n: int, comparisons: int) -> float:
    excess = lambda effect: _power(effect, n, comparisons) - POWER  # noqa: E731
    highest = 1.0
    while excess(highest) < 0:
        highest *= 2
    return float(optimize.brentq(excess, 0, highest, xtol=1e-6))


def seeds_needed(difference: float, std: float, comparisons: int = 1) -> int:
    """Return the smallest number of seeds with which `smallest_difference` is at most `difference` (> 0)."""
    if std == 0:
        return 2
    low, high = 1, 2
    while _power(difference / std, high, comparisons) < POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(difference / std, middle, comparisons) >= POWER else (middle, high)
    return high


def _power(effect: float, n: int, comparisons: int) -> float:
    """Return the probability that the test finds a mean difference of `effect` standard deviations."""
    noncentrality = effect * math.sqrt(n)
    # The other tail, a difference found with the wrong sign, is left out: it is no finding.
    return float(stats.nct.sf(_critical(n, comparisons), n - 1, noncentrality))


def _critical(n: int, comparisons: int) -> float:
    """Return the smallest t of n values that is significant in a family of so many comparisons."""
    return float(special.stdtrit(n - 1, 1 - ALPHA / (2 * comparisons)))  # as stats.t.ppf, in a hundredth of the time


def _tail(t: float, n: int) -> float:
    """Return the probability that the t of n values is larger."""
    return float(special.stdtr(n - 1, -t))  # as stats.t.sf


def mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided exact p value of McNemar's test: gains and losses are equally likely (McNemar 1947)."""
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
