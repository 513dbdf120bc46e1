"""Low-variance noise against Eq. 6 of Synthesized Pairs, one number at a time, and the trap in its threshold."""

import math

import pytest
import torch
from torch import Tensor

from fgssl.noises.low_variance import low_variance_deviation, low_variance_dimensions, spread
from fgssl.settings.noise import QuantileThreshold

INFINITE = math.inf


def bank_of(rows: int, columns: int = 40, seed: int = 0) -> Tensor:
    """Return features whose columns range from nearly constant to sparse, as in a ReLU network."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, columns, generator=random, dtype=torch.float64)
    return (1 + torch.linspace(0.05, 4, columns, dtype=torch.float64) * noise).clamp_min(0)


def slow_spread(bank: Tensor, statistic: str, normalization: str) -> list[float]:
    rows = bank.tolist()
    if normalization == "row":
        rows = [[value / math.hypot(*row) for value in row] for row in rows]
    spreads = []
    for values in zip(*rows, strict=True):
        column = list(values)
        if normalization == "column":
            length = math.hypot(*column)
            column = [value / length * math.sqrt(len(rows) / 1024) if length else 0.0 for value in column]
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        spreads.append(math.sqrt(variance) if statistic == "std" else variance)
    return spreads


def slow_deviation(spreads: list[float], threshold: float, sigma: float) -> list[float]:
    low, high = min(spreads), max(spreads)
    return [sigma * (1 - (value - low) / (high - low)) if value < threshold else 0.0 for value in spreads]


@pytest.mark.parametrize("normalization", ["column", "row", "none"])
@pytest.mark.parametrize("statistic", ["std", "var"])
def test_equals_the_slow_loop(statistic: str, normalization: str) -> None:
    bank = bank_of(rows=50)
    found, expected = spread(bank, statistic, normalization), slow_spread(bank, statistic, normalization)
    assert found.tolist() == pytest.approx(expected, rel=1e-10)
    threshold = sorted(expected)[17]
    deviation = low_variance_deviation(found, low_variance_dimensions(found, threshold * (1 + 1e-9)), sigma=0.5)
    assert deviation.tolist() == pytest.approx(slow_deviation(expected, threshold * (1 + 1e-9), 0.5), rel=1e-8)
    assert (deviation > 0).sum() == 18


def test_the_literal_variance_is_under_every_threshold() -> None:
    """The trap: at most 1/K, so with 1024 rows every dimension passes 0.01; the default statistic tells them apart."""
    bank = bank_of(rows=1024)
    literal = torch.nn.functional.normalize(bank, dim=0).var(dim=0, correction=0)
    assert literal.max() <= 1 / 1024
    assert low_variance_dimensions(literal, 0.01).all()
    by_default = spread(bank, "std", "column")
    assert by_default.max() <= 1 / math.sqrt(1024)
    for threshold in (0.01, 0.02):
        share = low_variance_dimensions(by_default, threshold).double().mean()
        assert 0.05 < share < 0.95
    torch.testing.assert_close(by_default, literal.sqrt())  # at the reference number of rows nothing is scaled


def test_the_threshold_means_the_same_for_every_bank_size() -> None:
    reference = spread(bank_of(1024), "std", "column")
    for rows in (256, 4096):
        torch.testing.assert_close(spread(bank_of(rows, seed=rows), "std", "column"), reference, rtol=0.2, atol=0)
    repeated = bank_of(1024).repeat(4, 1)  # the same distribution to the last digit
    torch.testing.assert_close(spread(repeated, "std", "column"), reference)
    torch.testing.assert_close(spread(repeated, "var", "column"), reference**2)


@pytest.mark.parametrize("statistic", ["std", "var"])
def test_a_column_of_zeros_has_spread_zero(statistic: str) -> None:
    bank = bank_of(64)
    bank[:, 3] = 0.0
    for normalization in ("column", "row", "none"):
        found = spread(bank, statistic, normalization)
        assert found[3] == 0.0
        assert found.isfinite().all()
        assert low_variance_deviation(found, low_variance_dimensions(found, INFINITE), 0.5)[3] == 0.5


def test_thresholds_that_are_numbers_quantiles_and_infinite() -> None:
    spreads = spread(bank_of(1024), "std", "column")
    assert low_variance_dimensions(spreads, INFINITE).all()
    assert not low_variance_dimensions(spreads, 0.0).any()
    assert low_variance_dimensions(spreads, QuantileThreshold(quantile=0.25)).sum() == 10  # of 40
    assert not low_variance_dimensions(spreads, QuantileThreshold(quantile=0.0)).any()
    # The bound of the default statistic is 0.031: 0.05 already takes every dimension.
    assert torch.equal(low_variance_dimensions(spreads, 0.05), low_variance_dimensions(spreads, INFINITE))


def test_equal_spreads_give_no_noise() -> None:
    spreads = torch.full((5,), 0.01)
    assert low_variance_deviation(spreads, low_variance_dimensions(spreads, 0.02), 0.5).eq(0).all()


def test_the_scale_of_the_noise_is_taken_over_all_dimensions() -> None:
    """v~ is the min-max over all D, not over the low ones alone: a dimension at tau keeps some noise."""
    deviation = low_variance_deviation(torch.tensor([0.0, 0.01, 0.03]), torch.tensor([True, True, False]), 0.6)
    assert deviation.tolist() == pytest.approx([0.6, 0.4, 0.0])
