"""HiMulConE against a double loop, and its constraint."""

import math

import pytest
import torch
from torch import Tensor

from fgssl.errors import NoPositivesError
from fgssl.losses import himulcone, supcon

LABELS = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [2, 1, 0], [3, 1, 0], [4, 2, 1], [5, 3, 1]])


def slow(embeddings: Tensor, labels: Tensor, weights: list[float], temperature: float) -> float:
    rows = [[x / math.hypot(*row) for x in row] for row in embeddings.tolist()]
    losses = list[float]()
    for level in range(len(weights)):
        anchors = []
        for i, anchor in enumerate(rows):
            logits = {
                j: sum(a * b for a, b in zip(anchor, row, strict=True)) / temperature
                for j, row in enumerate(rows)
                if j != i
            }
            positives = [j for j in logits if labels[j, level] == labels[i, level]]
            if positives:
                log_total = math.log(sum(map(math.exp, logits.values())))
                anchors.append(sum(log_total - logits[j] for j in positives) / len(positives))
        losses.append(max([sum(anchors) / len(anchors), *losses]))
    return sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / len(weights)


@pytest.mark.parametrize("weights", [[1.0], [2.0, 1.4142], [2.0, 1.4142, 1.26], [1.0, 1.0, 0.0], [0.0, 2.0]])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_the_double_loop(weights: list[float], temperature: float) -> None:
    for _ in range(4):
        embeddings = torch.randn(len(LABELS), 6, dtype=torch.float64)
        found = himulcone(embeddings, LABELS[:, : len(weights)], weights, temperature)
        expected = slow(embeddings, LABELS[:, : len(weights)], weights, temperature)
        assert found.item() == pytest.approx(expected, rel=1e-12)


def by_genus() -> Tensor:
    """Return embeddings in which the genera lie apart, but the two images of a species opposite within their genus."""
    genus = torch.tensor([[1.0, 0.0, 0.0]] * 4 + [[-1.0, 0.0, 0.0]] * 4, dtype=torch.float64)
    return genus + 0.3 * torch.tensor([[0, 1, 0], [0, -1, 0], [0, 1, 0], [0, -1, 0]] * 2, dtype=torch.float64)


def test_a_genus_that_is_easier_than_its_species_counts_as_they_do() -> None:
    embeddings = by_genus().requires_grad_()
    labels = torch.tensor([[0, 0], [0, 0], [1, 0], [1, 0], [2, 1], [2, 1], [3, 1], [3, 1]])
    species, genus = (supcon(embeddings, labels[:, level], 0.1) for level in range(2))
    assert genus < species
    torch.testing.assert_close(himulcone(embeddings, labels, [2.0, 1.0], 0.1), 1.5 * species)
    (constrained,) = torch.autograd.grad(himulcone(embeddings, labels, [0.5, 1.0], 0.1), embeddings)
    (expected,) = torch.autograd.grad(0.75 * supcon(embeddings, labels[:, 0], 0.1), embeddings)
    torch.testing.assert_close(constrained, expected)


def test_one_level_is_supcon() -> None:
    embeddings = torch.randn(len(LABELS), 6)
    torch.testing.assert_close(
        himulcone(embeddings, LABELS[:, :1], [1.0], 0.07), supcon(embeddings, LABELS[:, 0], 0.07)
    )


def test_a_level_without_positives() -> None:
    with pytest.raises(NoPositivesError, match="a label at level 0"):
        himulcone(torch.randn(4, 3), torch.tensor([[0, 0], [1, 0], [2, 0], [3, 0]]), [2.0, 1.4], 0.07)
