"""Random numbers: functions of their names, uniform, and pinned, since another stream would change all results."""

import math

import numpy as np
import pytest

from fgssl.randomness import normal, permutation, uniform

ROWS = np.arange(20_000)

UNIFORM = [
    [0.3045123725994232, 0.48802729768319575],
    [0.41789539807871434, 0.8198297364825267],
    [0.3418344303978642, 0.2441025202377639],
]
NORMAL = [
    [-0.14916518751475685, 1.6320861719846278],
    [1.0587249787207857, -0.7257752875056915],
    [1.404543380118507, -0.4764009591164254],
]
PERMUTATION = [2, 5, 8, 4, 3, 1, 0, 6, 9, 7]


def test_a_number_depends_on_seed_stream_counters_row_and_column_alone() -> None:
    rows = np.array([7, 123_456_789, 0, 41])
    whole = uniform(0, "colour", 3, 1, rows=rows, columns=6)
    assert (uniform(0, "colour", 3, 1, rows=rows[::-1], columns=6) == whole[::-1]).all()
    assert (uniform(0, "colour", 3, 1, rows=rows[2:3], columns=4) == whole[2:3, :4]).all()
    for seed, stream, counters in (
        (1, "colour", (3, 1)),
        (0, "crop", (3, 1)),
        (0, "colour", (1, 3)),
        (0, "colour", (3,)),
    ):
        assert (uniform(seed, stream, *counters, rows=rows, columns=6) != whole).all()


def test_numpys_integers_mean_the_same_as_pythons() -> None:
    expected = uniform(2, "order", 3, rows=ROWS[:5], columns=2)
    assert (uniform(np.int64(2), "order", np.int64(3), rows=ROWS[:5], columns=2) == expected).all()  # type: ignore[arg-type]


def test_uniform_numbers_are_even_row_by_row_and_column_by_column() -> None:
    numbers = uniform(0, "test", rows=ROWS, columns=8)
    assert numbers.dtype == np.float64
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.T:
        assert column.mean() == pytest.approx(0.5, abs=5 / math.sqrt(12 * len(ROWS)))
        counts, _ = np.histogram(column, bins=20, range=(0, 1))
        chi_square = ((counts - 1000) ** 2 / 1000).sum()
        assert chi_square < 50  # 19 degrees of freedom: exceeded once in 7,000
    counts, _ = np.histogram(uniform(0, "test", rows=ROWS[:1], columns=20_000), bins=20, range=(0, 1))
    assert ((counts - 1000) ** 2 / 1000).sum() < 50


def test_rows_columns_seeds_and_streams_are_uncorrelated() -> None:
    numbers = uniform(0, "test", 5, rows=ROWS, columns=3)
    others = [
        numbers[:, 1],  # the next column
        np.roll(numbers[:, 0], 1),  # the next row
        uniform(1, "test", 5, rows=ROWS, columns=1)[:, 0],
        uniform(0, "other", 5, rows=ROWS, columns=1)[:, 0],
        uniform(0, "test", 6, rows=ROWS, columns=1)[:, 0],
    ]
    for other in others:
        assert abs(np.corrcoef(numbers[:, 0], other)[0, 1]) < 5 / math.sqrt(len(ROWS))
    assert len(np.unique(numbers)) == numbers.size


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_normal_numbers_have_mean_0_variance_1_and_normal_tails(columns: int) -> None:
    numbers = normal(0, "test", rows=ROWS, columns=columns)
    assert numbers.shape == (len(ROWS), columns)
    for column in numbers.T:
        assert column.mean() == pytest.approx(0, abs=5 / math.sqrt(len(ROWS)))
        assert column.var() == pytest.approx(1, abs=5 * math.sqrt(2 / len(ROWS)))
        for bound in (1.0, 2.0):
            share, expected = (np.abs(column) < bound).mean(), math.erf(bound / math.sqrt(2))
            assert share == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / len(ROWS)))
    if columns > 1:  # also the pair of one transform
        assert abs(np.corrcoef(numbers[:, 0], numbers[:, -1])[0, 1]) < 5 / math.sqrt(len(ROWS))


@pytest.mark.parametrize("length", [0, 1, 2, 1000])
def test_permutations_hold_every_row_once(length: int) -> None:
    order = permutation(0, "order", 3, length=length)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(length))


def test_permutations_are_even() -> None:
    """Every one of the 24 orders of four things about as often."""
    orders = [tuple(permutation(0, "order", epoch, length=4).tolist()) for epoch in range(4800)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 60  # 23 degrees of freedom: exceeded once in 24,000


def test_known_values() -> None:
    """Numbers of SCHEMA 1: if they must change, every result changes; raise fgssl.settings.fingerprints.SCHEMA."""
    rows = np.array([0, 1, 39_208])
    assert uniform(0, "colour", 2, 1, rows=rows, columns=2).tolist() == UNIFORM
    np.testing.assert_allclose(normal(3, "noise/grad_cam", 17, rows=rows, columns=2), NORMAL, rtol=1e-14)
    assert permutation(0, "order", 0, length=10).tolist() == PERMUTATION
