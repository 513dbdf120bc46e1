"""Negative cosine against a loop and lightly, in closed form, and the flow of its gradient."""

import math

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from torch import Tensor

from fgssl.losses import negative_cosine


def slow(prediction: Tensor, target: Tensor) -> float:
    total = 0.0
    for p, z in zip(prediction.tolist(), target.tolist(), strict=True):
        total -= sum(a * b for a, b in zip(p, z, strict=True)) / math.hypot(*p) / math.hypot(*z)
    return total / len(prediction)


def test_equals_the_loop_and_lightly() -> None:
    prediction, target = torch.randn(2, 16, 12, dtype=torch.float64)
    found = negative_cosine(prediction, target)
    assert found.item() == pytest.approx(slow(prediction, target), rel=1e-12)
    torch.testing.assert_close(found, NegativeCosineSimilarity()(prediction, target), rtol=1e-12, atol=0)


def test_parallel_orthogonal_and_opposite_rows() -> None:
    rows = torch.randn(5, 8, dtype=torch.float64)
    assert negative_cosine(rows, 3 * rows).item() == pytest.approx(-1, rel=1e-12)
    assert negative_cosine(rows, -rows).item() == pytest.approx(1, rel=1e-12)
    assert negative_cosine(torch.eye(4), torch.eye(4).roll(1, dims=0)).item() == 0


def test_the_gradient_reaches_both_unless_the_target_is_detached() -> None:
    prediction, target = torch.randn(2, 5, 8, dtype=torch.float64)
    prediction.requires_grad_()
    target.requires_grad_()
    both = torch.autograd.grad(negative_cosine(prediction, target), (prediction, target))
    assert all(gradient.abs().max() > 0 for gradient in both)
    (alone,) = torch.autograd.grad(negative_cosine(prediction, target.detach()), prediction)
    assert torch.equal(alone, both[0])
