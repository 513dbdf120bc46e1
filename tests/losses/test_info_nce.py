"""InfoNCE with a queue against a double loop and lightly, and in closed form."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor

from fgssl.losses import info_nce_per_row


def slow(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> list[float]:
    """Return -log of the positive's share in the softmax, one query and one negative at a time."""

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


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_equals_lightly_with_a_memory_bank(temperature: float) -> None:
    query, key, queue = (torch.randn(rows, 12, dtype=torch.float64) for rows in (8, 8, 40))
    loss = NTXentLoss(temperature, memory_bank_size=(40, 12))
    loss.memory_bank.bank = torch.nn.functional.normalize(queue, dim=1)
    expected = loss(query, key)  # the query needs no gradient, so the bank stays as it is
    torch.testing.assert_close(info_nce_per_row(query, key, queue, temperature).mean(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("negatives", [1, 64, 1000])
def test_identical_embeddings_give_the_log_of_all_candidates(negatives: int) -> None:
    row = torch.randn(1, 8, dtype=torch.float64)
    loss = info_nce_per_row(3 * row, row, 0.5 * row.expand(negatives, -1), temperature=0.2)
    assert loss.item() == pytest.approx(math.log(1 + negatives), rel=1e-12)


def test_neither_length_nor_order_of_the_queue_matters() -> None:
    query, key, queue = (torch.randn(rows, 8, dtype=torch.float64) for rows in (4, 4, 9))
    other = queue.flip(0) * torch.logspace(-2, 2, 9, dtype=torch.float64)[:, None]
    one, two = (info_nce_per_row(query, key, negatives, 0.2) for negatives in (other, queue))
    torch.testing.assert_close(one, two, rtol=1e-12, atol=0)
