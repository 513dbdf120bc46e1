"""NT-Xent against a double loop, pytorch-metric-learning, and in closed form."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from fgssl.losses import nt_xent


def slow(first: Tensor, second: Tensor, temperature: float) -> float:
    """Mean of -log(share of the partner among all others), one anchor and one candidate at a time."""
    rows = [*first.tolist(), *second.tolist()]
    losses = []
    for anchor, vector in enumerate(rows):
        partner = (anchor + len(first)) % len(rows)
        weights = {}
        for other, candidate in enumerate(rows):
            if other != anchor:
                product = sum(a * b for a, b in zip(vector, candidate, strict=True))
                weights[other] = math.exp(product / math.hypot(*vector) / math.hypot(*candidate) / temperature)
        losses.append(-math.log(weights[partner] / sum(weights.values())))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_equals_the_double_loop(temperature: float) -> None:
    first, second = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    assert nt_xent(first, second, temperature).item() == pytest.approx(slow(first, second, temperature), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_equals_pytorch_metric_learning(temperature: float) -> None:
    first, second = torch.randn(16, 12), torch.randn(16, 12)
    labels = torch.arange(16).repeat(2)
    expected = NTXentLoss(temperature)(torch.cat([first, second]), labels)
    torch.testing.assert_close(nt_xent(first, second, temperature), expected, rtol=1e-5, atol=1e-6)


def test_identical_embeddings_give_the_log_of_all_others() -> None:
    rows = torch.randn(1, 6, dtype=torch.float64).expand(7, -1)
    assert nt_xent(rows, 2 * rows, 0.2).item() == pytest.approx(math.log(2 * 7 - 1), rel=1e-12)


def test_half_precision_inputs_give_a_single_precision_loss_and_finite_gradients() -> None:
    first = torch.randn(4, 8, dtype=torch.bfloat16, requires_grad=True)
    loss = nt_xent(first, torch.randn(4, 8, dtype=torch.bfloat16), temperature=0.01)
    loss.backward()
    assert loss.dtype == torch.float32
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert first.grad.abs().max() > 0


def test_autocast_does_not_reach_the_logits() -> None:
    first, second = torch.randn(4, 8), torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = nt_xent(first, second, 0.2)
    assert torch.equal(inside, nt_xent(first, second, 0.2))


def test_double_precision_stays_double() -> None:
    assert nt_xent(torch.randn(4, 8).double(), torch.randn(4, 8).double(), 0.2).dtype == torch.float64
