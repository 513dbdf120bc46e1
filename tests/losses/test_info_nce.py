"""InfoNCE with a queue against a double loop, and in closed form."""

import math

import pytest
import torch
from torch import Tensor

from fgssl.losses import info_nce, info_nce_per_row


def slow(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> list[float]:
    """-log of the positive's share in the softmax, one query and one negative at a time."""

    def similarity(first: list[float], second: list[float]) -> float:
        product = sum(a * b for a, b in zip(first, second, strict=True))
        return product / math.hypot(*first) / math.hypot(*second)

    losses = []
    for q, k in zip(query.tolist(), key.tolist(), strict=True):
        positive = math.exp(similarity(q, k) / temperature)
        negatives = [math.exp(similarity(q, row) / temperature) for row in queue.tolist()]
        losses.append(-math.log(positive / (positive + sum(negatives))))
    return losses


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_equals_the_double_loop(temperature: float) -> None:
    query, key, queue = (torch.randn(rows, 6, dtype=torch.float64) for rows in (5, 5, 11))
    expected = slow(query, key, queue, temperature)
    found = info_nce_per_row(query, key, queue, temperature)
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert info_nce(query, key, queue, temperature).item() == pytest.approx(sum(expected) / 5, rel=1e-12)


@pytest.mark.parametrize("negatives", [1, 64, 1000])
def test_identical_embeddings_give_the_log_of_all_candidates(negatives: int) -> None:
    row = torch.randn(1, 8, dtype=torch.float64)
    loss = info_nce(3 * row, row, 0.5 * row.expand(negatives, -1), temperature=0.2)
    assert loss.item() == pytest.approx(math.log(1 + negatives), rel=1e-12)


def test_the_length_of_a_vector_does_not_matter() -> None:
    query, key, queue = torch.randn(4, 8), torch.randn(4, 8), torch.randn(9, 8)
    lengths = torch.tensor([[0.1], [1.0], [3.0], [50.0]])
    torch.testing.assert_close(info_nce(query * lengths, key, queue, 0.2), info_nce(query, key, queue, 0.2))


def test_half_precision_inputs_give_a_single_precision_loss_and_finite_gradients() -> None:
    query = torch.randn(4, 8, dtype=torch.bfloat16, requires_grad=True)
    loss = info_nce(query, torch.randn(4, 8), torch.randn(9, 8), temperature=0.01)
    loss.backward()
    assert loss.dtype == torch.float32
    assert query.grad is not None
    assert query.grad.isfinite().all()
    assert query.grad.abs().max() > 0


def test_autocast_does_not_reach_the_logits() -> None:
    query, key, queue = torch.randn(4, 8), torch.randn(4, 8), torch.randn(9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = info_nce(query, key, queue, 0.2)
    assert torch.equal(inside, info_nce(query, key, queue, 0.2))


def test_double_precision_stays_double() -> None:
    rows = torch.randn(4, 8, dtype=torch.float64)
    assert info_nce_per_row(rows, rows, rows, 0.2).dtype == torch.float64
