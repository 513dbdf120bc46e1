"""NT-Xent against a double loop, pytorch-metric-learning and lightly, and in closed form."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss as LightlyNTXentLoss
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from fgssl.losses import nt_xent


def slow(first: Tensor, second: Tensor, temperature: float) -> float:
    """Return the mean of -log(share of the partner among all others), one anchor and one candidate at a time."""
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
def test_equals_pytorch_metric_learning_and_lightly(temperature: float) -> None:
    first, second = torch.randn(2, 16, 12, dtype=torch.float64)
    labels = torch.arange(16).repeat(2)
    found = nt_xent(first, second, temperature)
    for expected in (
        NTXentLoss(temperature)(torch.cat([first, second]), labels),
        LightlyNTXentLoss(temperature)(first, second),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_identical_embeddings_give_the_log_of_all_others() -> None:
    rows = torch.randn(1, 6, dtype=torch.float64).expand(7, -1)
    assert nt_xent(rows, 2 * rows, 0.2).item() == pytest.approx(math.log(2 * 7 - 1), rel=1e-12)
