"""VICReg against a loop and lightly, and in closed form."""

import math
import statistics

import pytest
import torch
from lightly.loss import VICRegLoss
from torch import Tensor

from fgssl.losses import vicreg_terms


def slow(first: Tensor, second: Tensor) -> list[float]:
    """Return Eq. 5, 1 and 4, scaled as the official code scales them."""
    pairs = list(zip(first.flatten().tolist(), second.flatten().tolist(), strict=True))
    invariance = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    variance = covariance = 0.0
    for rows in (first, second):
        columns = rows.T.tolist()
        for i, a in enumerate(columns):
            variance += max(0.0, 1 - math.sqrt(statistics.variance(a) + 1e-4)) / len(columns) / 2
            others = [b for j, b in enumerate(columns) if j != i]
            covariance += sum(statistics.covariance(a, b) ** 2 for b in others) / len(columns)
    return [invariance, variance, covariance]


def test_equals_the_loop_and_lightly() -> None:
    first, second = torch.randn(2, 16, 12, dtype=torch.float64) * torch.linspace(0.5, 1.5, 12) + 5
    terms = vicreg_terms(first, second)
    assert [term.item() for term in terms] == pytest.approx(slow(first, second), rel=1e-12)
    invariance, variance, covariance = terms
    expected = VICRegLoss(lambda_param=3.0, mu_param=5.0, nu_param=7.0)(first, second)
    torch.testing.assert_close(3 * invariance + 5 * variance + 7 * covariance, expected, rtol=1e-12, atol=0)


def test_each_term_is_alone_in_its_case() -> None:
    signs = 2 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert [term.item() for term in vicreg_terms(signs, signs)] == [0, 0, 0]
    assert [term.item() for term in vicreg_terms(signs, signs + 3)] == [9, 0, 0]
    twice = signs[:, [0, 0]]  # variance 16 / 3 in both dimensions, and the same covariance
    assert [term.item() for term in vicreg_terms(twice, twice)] == pytest.approx([0, 0, 2 * (16 / 3) ** 2])
    collapsed = torch.ones(4, 2)
    assert [term.item() for term in vicreg_terms(collapsed, collapsed)] == pytest.approx([0, 0.99, 0])


def test_collapsed_dimensions_give_no_nan() -> None:
    rows = torch.ones(4, 3).requires_grad_()
    for term in vicreg_terms(rows, torch.randn(4, 3)):
        (gradient,) = torch.autograd.grad(term, rows, retain_graph=True)
        assert gradient.isfinite().all()


def test_one_image_has_no_spread() -> None:
    with pytest.raises(ValueError, match="a batch of one image has no spread"):
        vicreg_terms(torch.ones(1, 3), torch.ones(1, 3))
