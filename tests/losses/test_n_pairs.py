"""n-pairs against a double loop, and in closed form."""

import math

import pytest
import torch
from torch import Tensor

from fgssl.losses import n_pairs

LABELS = torch.tensor([1, 8, 5, 1, 7, 5, 1])


def slow(embeddings: Tensor, labels: Tensor, temperature: float) -> float:
    """Return the cross-entropy of similarities with the normalized mask of equal labels, including the diagonal."""
    rows = [[x / math.hypot(*row) for x in row] for row in embeddings.tolist()]
    total = 0.0
    for i, anchor in enumerate(rows):
        logits = [sum(a * b for a, b in zip(anchor, row, strict=True)) / temperature for row in rows]
        log_total = math.log(sum(math.exp(logit) for logit in logits))
        same = [j for j in range(len(rows)) if labels[j] == labels[i]]
        total -= sum(logits[j] - log_total for j in same) / len(same)
    return total / len(rows)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_equals_the_double_loop(temperature: float) -> None:
    embeddings = torch.randn(7, 6, dtype=torch.float64)
    found = n_pairs(embeddings, LABELS, temperature)
    assert found.item() == pytest.approx(slow(embeddings, LABELS, temperature), rel=1e-12)


def test_identical_embeddings_give_the_log_of_all_rows() -> None:
    rows = torch.randn(1, 6, dtype=torch.float64).expand(7, -1)
    assert n_pairs(rows, LABELS, 0.05).item() == pytest.approx(math.log(7), rel=1e-12)


def test_a_row_alone_in_its_class_is_its_own_positive() -> None:
    """Orthogonal rows: the share of the diagonal is e^(1/t) of e^(1/t) + 3."""
    expected = math.log(math.exp(2) + 3) - 2
    assert n_pairs(torch.eye(4).double(), torch.arange(4), 0.5).item() == pytest.approx(expected, rel=1e-12)
