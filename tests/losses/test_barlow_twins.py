"""Barlow Twins against a loop and lightly, and in closed form."""

import math

import pytest
import torch
from lightly.loss import BarlowTwinsLoss
from torch import Tensor

from fgssl.losses import barlow_twins


def slow(first: Tensor, second: Tensor, redundancy_weight: float) -> float:
    """Return Eq. 1 with the correlations of Eq. 2, from centered columns."""
    total = 0.0
    for i, a in enumerate((first - first.mean(dim=0)).T.tolist()):
        for j, b in enumerate((second - second.mean(dim=0)).T.tolist()):
            correlation = sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
            total += (1 - correlation) ** 2 if i == j else redundancy_weight * correlation**2
    return total


def test_equals_the_loop_and_lightly() -> None:
    first, second = 30 * torch.randn(2, 16, 12, dtype=torch.float64) + 5
    found = barlow_twins(first, second, 0.005)
    assert found.item() == pytest.approx(slow(first, second, 0.005), rel=1e-5)  # up to BatchNorm's epsilon
    torch.testing.assert_close(found, BarlowTwinsLoss(0.005)(first, second), rtol=1e-12, atol=0)


def test_uncorrelated_dimensions_that_agree_have_no_loss() -> None:
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    assert barlow_twins(signs, 3 * signs + 7, 0.005).item() == pytest.approx(0, abs=1e-9)
    assert barlow_twins(signs, -signs, 0.005).item() == pytest.approx(2 * 2**2, rel=1e-4)
    twice = signs[:, [0, 0]]  # both dimensions are the same: two correlations of 1 off the diagonal
    assert barlow_twins(twice, twice, 0.005).item() == pytest.approx(2 * 0.005, rel=1e-4)


def test_constant_dimensions_give_no_nan() -> None:
    rows = torch.ones(4, 3).requires_grad_()
    value = barlow_twins(rows, torch.randn(4, 3), 0.005)
    assert value.isfinite()
    (gradient,) = torch.autograd.grad(value, rows)
    assert gradient.isfinite().all()


def test_one_image_has_no_spread() -> None:
    with pytest.raises(ValueError, match="a batch of one image has no spread"):
        barlow_twins(torch.ones(1, 3), torch.ones(1, 3), 0.005)
