"""Statistics against scipy's tests, simulations and numbers from the literature."""

import math

import numpy as np
import pytest
from scipy import stats

from fgssl.report.statistics import equivalence, estimate, holm, seeds_needed, smallest_difference


def test_estimate_is_scipys_t_test_and_interval() -> None:
    values = [0.8, 1.9, -0.3, 1.1]
    found, theirs = estimate(values), stats.ttest_1samp(values, 0)
    interval = theirs.confidence_interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.n, found.mean, found.std) == pytest.approx((4, np.mean(values), np.std(values, ddof=1)))


@pytest.mark.parametrize("values", [[], [1.0]])
def test_numbers_that_too_few_values_do_not_have_are_nan(values: list[float]) -> None:
    found = estimate(values)
    assert found.n == len(values)
    assert all(math.isnan(number) for number in (found.std, found.low, found.high, found.p))


def test_equal_differences_show_no_spread_and_prove_nothing() -> None:
    gains = np.array([100 * (right + 2) / 600 - 100 * right / 600 for right in (400, 417, 431)])
    assert np.ptp(gains) > 0  # two images more at each seed, but not to the last bit
    for values in ([1.0, 1.0, 1.0], gains):
        found = estimate(values)
        assert found.std == 0
        assert all(math.isnan(number) for number in (found.low, found.high, found.p, equivalence(values, 0.5)))
    assert math.isnan(smallest_difference(0.0, 3))


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .03, .04: 4 x .01, 3 x .02, then 2 x .03 and 1 x .04, which may not fall again.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    adjusted = holm([0.01, math.nan])  # what cannot be tested was asked, too
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])


def test_equivalence_is_the_larger_of_two_one_sided_tests() -> None:
    values = [0.2, -0.1, 0.15, 0.05]
    upper = stats.ttest_1samp(values, 0.5, alternative="less").pvalue
    lower = stats.ttest_1samp(values, -0.5, alternative="greater").pvalue
    assert equivalence(values, 0.5) == pytest.approx(max(upper, lower))
    assert equivalence([5.0, 5.1, 4.9], 0.5) > 0.99


@pytest.mark.parametrize(("n", "deviations"), [(3, 3.26), (5, 1.68), (10, 0.996)])
def test_smallest_difference_of_n_pairs(n: int, deviations: float) -> None:
    """The values of G*Power for a paired t test at .05, two-sided, with power .8."""
    assert smallest_difference(1.0, n) == pytest.approx(deviations, abs=0.005)
    assert smallest_difference(2.0, n) == pytest.approx(2 * smallest_difference(1.0, n))


def test_smallest_difference_is_found_in_four_of_five_simulated_tables() -> None:
    n, comparisons = 4, 3
    drawn = np.random.default_rng(0).normal(smallest_difference(1.0, n, comparisons), 1.0, size=(20_000, n))
    found = stats.ttest_1samp(drawn, 0, axis=1)
    assert np.mean((found.pvalue < 0.05 / comparisons) & (found.statistic > 0)) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("comparisons", [1, 6])
def test_seeds_needed_inverts_the_smallest_difference(comparisons: int) -> None:
    for difference in (0.02, 0.5, 1.7, 20.0):
        n = seeds_needed(difference, 1.0, comparisons)
        assert smallest_difference(1.0, n, comparisons) <= difference * (1 + 1e-6)
        assert n == 2 or smallest_difference(1.0, n - 1, comparisons) > difference
    assert seeds_needed(0.5, 0.0) == 2
