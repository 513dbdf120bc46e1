"""Measures of collapse against loops, in closed form, and on collapsed sets."""

import math
import statistics

import pytest
import torch

from fgssl.collapse import effective_rank, normalized_std


def test_normalized_std_equals_the_loop() -> None:
    vectors = torch.randn(20, 6, dtype=torch.float64)
    rows = [[x / math.hypot(*row) for x in row] for row in vectors.tolist()]
    columns = zip(*rows, strict=True)
    expected = statistics.fmean(statistics.pstdev(column) for column in columns) * math.sqrt(6)
    assert normalized_std(vectors).item() == pytest.approx(expected, rel=1e-12)


def test_normalized_std_is_1_for_the_axes_and_near_1_for_gaussian_vectors() -> None:
    axes = torch.cat([torch.eye(8), -torch.eye(8)]).double()
    assert normalized_std(axes).item() == pytest.approx(1, rel=1e-12)
    assert normalized_std(torch.randn(4000, 64)).item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_a_collapsed_set_has_no_spread_and_rank_0(rows: int, dtype: torch.dtype) -> None:
    same = torch.full((rows, 16), 0.1, dtype=dtype)  # whose mean over 1000 rows is not 0.1, in floating point
    lengths = torch.linspace(1, 2, rows)[:, None]
    for collapsed in (same, torch.zeros_like(same)):
        assert normalized_std(collapsed).item() == pytest.approx(0, abs=1e-6)
        assert effective_rank(collapsed).item() == 0
    assert normalized_std(same.double() * lengths).item() == pytest.approx(0, abs=1e-6)


def test_what_only_rounding_sets_apart_is_collapsed_too() -> None:
    same = torch.randn(1, 16).expand(100, -1)
    rounded = same * (1 + torch.rand(100, 16) * torch.finfo(torch.float32).eps)  # the last digit, of some
    assert len(rounded.unique(dim=0)) > 1
    assert effective_rank(rounded).item() == 0
    assert effective_rank(same + torch.randn(100, 16) * 1e-3).item() > 10


def test_effective_rank_counts_the_directions_that_vary_equally() -> None:
    """Roy and Vetterli: equal singular values give the rank."""
    for dimensions in (1, 3, 8):
        axes = torch.eye(8)[:dimensions]
        found = effective_rank(torch.cat([axes, -axes]) + 5)  # the mean is taken off
        assert found.dtype == torch.float64
        assert found.item() == pytest.approx(dimensions, rel=1e-9)


def test_effective_rank_of_two_unequal_directions_in_closed_form() -> None:
    """Singular values 3 : 1, so exp(H(3/4, 1/4)), whatever the scale, the place and the rotation."""
    vectors = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64)).Q
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    for moved in (vectors, 100 * vectors, vectors - 7, vectors @ rotation):
        assert effective_rank(moved).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(300, 40, 40), (60, 200, 60), (300, 100, 5), (50, 200, 5)])
def test_effective_rank_equals_that_of_the_singular_values(rows: int, columns: int, rank: int) -> None:
    """Directions without variance add nothing, though their eigenvalues are rounding rather than 0."""
    vectors = torch.randn(rows, rank).double() @ torch.randn(rank, columns).double()
    singular = torch.linalg.svdvals(vectors - vectors.mean(dim=0))[: min(rank, rows - 1)]
    shares = singular / singular.sum()
    expected = float((-shares * shares.log()).sum().exp())
    assert effective_rank(vectors).item() == pytest.approx(expected, rel=1e-9)


def test_effective_rank_lies_between_1_and_the_rank() -> None:
    for rows, columns in ((5, 16), (40, 16), (200, 3)):
        assert 1 <= effective_rank(torch.randn(rows, columns)).item() <= min(rows - 1, columns) + 1e-9


@pytest.mark.parametrize("measure", [normalized_std, effective_rank])
def test_measures_carry_no_gradient_and_name_wrong_shapes(measure) -> None:
    assert not measure(torch.randn(5, 4, requires_grad=True)).requires_grad
    for shape in ((0, 4), (3, 0), (4,), (2, 3, 4)):
        with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
            measure(torch.zeros(shape))


def test_effective_rank_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="not finite"):
        effective_rank(torch.tensor([[1.0, math.nan], [0, 1]]))
