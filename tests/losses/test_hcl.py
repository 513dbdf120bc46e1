"""HCL against a double loop, against SupCon at its extremes, and in closed form; the mass of its targets."""

import math
from typing import Literal

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor

from fgssl.errors import NoPositivesError
from fgssl.losses import hcl, supcon, target_mass

WEIGHTINGS: tuple[Literal["pair", "mass"], ...] = ("pair", "mass")

# species, genus, family; row 6 is alone in its species, 7 in its genus too, 8 on every level
LABELS = torch.tensor(
    [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [2, 1, 0], [2, 1, 0], [3, 1, 0], [4, 2, 0], [5, 3, 1], [1, 0, 0]]
)

CROSSED = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [2, 0, 0], [2, 0, 1], [3, 1, 1]])
"""Labels of levels that are not nested."""


def slow_targets(labels: Tensor, weights: list[float], weighting: str) -> list[list[float]]:
    """Return the weights of log p_ij, one pair at a time."""
    rows, levels = labels.shape
    targets = [[0.0] * rows for _ in range(rows)]
    others = [[j for j in range(rows) if j != i] for i in range(rows)]

    def add(pair_weights: list[dict[int, float]], share: float) -> None:
        anchors = [i for i in range(rows) if sum(pair_weights[i].values()) > 0]
        for i in anchors:
            for j, weight in pair_weights[i].items():
                targets[i][j] += share * weight / sum(pair_weights[i].values()) / len(anchors)

    if weighting == "pair":
        add([{j: pair_weight(labels[i], labels[j], weights) for j in others[i]} for i in range(rows)], 1.0)
    else:
        for level in range(levels):
            coefficient = weights[level] - (weights[level + 1] if level + 1 < levels else 0)
            same = [{j: float(labels[i, level] == labels[j, level]) for j in others[i]} for i in range(rows)]
            add(same, coefficient / weights[0])
    return targets


def pair_weight(first: Tensor, second: Tensor, weights: list[float]) -> float:
    """Return the weight of the finest level that two embeddings share."""
    for level, weight in enumerate(weights):
        if first[level] == second[level]:
            return weight
    return 0.0


def slow(embeddings: Tensor, targets: list[list[float]], temperature: float) -> float:
    rows = [[x / math.hypot(*row) for x in row] for row in embeddings.tolist()]
    total = 0.0
    for i, anchor in enumerate(rows):
        logits = [sum(a * b for a, b in zip(anchor, row, strict=True)) / temperature for row in rows]
        log_total = math.log(sum(math.exp(logit) for j, logit in enumerate(logits) if j != i))
        total -= sum(targets[i][j] * (logits[j] - log_total) for j in range(len(rows)) if j != i)
    return total


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.1], [2.0, 0.5, 0.1], [1.0, 1.0, 0.3], [1.0, 0.2, 0.0]])
@pytest.mark.parametrize("labels", [LABELS, CROSSED])
def test_equals_the_double_loop(labels: Tensor, weights: list[float], weighting: Literal["pair", "mass"]) -> None:
    embeddings, labels = torch.randn(len(labels), 6, dtype=torch.float64), labels[:, : len(weights)]
    targets = slow_targets(labels, weights, weighting)
    found = hcl(embeddings, labels, weights, 0.1, weighting)
    assert found.item() == pytest.approx(slow(embeddings, targets, 0.1), rel=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize(("genus_weight", "level"), [(0.0, 0), (1.0, 1)])
def test_is_supcon_on_species_for_lambda_0_and_on_genus_for_lambda_1(
    genus_weight: float, level: int, weighting: Literal["pair", "mass"]
) -> None:
    embeddings = torch.randn(10, 6, dtype=torch.float64)
    found = hcl(embeddings, LABELS[:, :2], [1.0, genus_weight], 0.1, weighting)
    for expected in (
        supcon(embeddings, LABELS[:, level], 0.1),
        SupConLoss(0.1)(embeddings, LABELS[:, level]),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_by_mass_is_the_mix_of_two_supcons() -> None:
    embeddings = torch.randn(10, 6, dtype=torch.float64)
    species, genus = (supcon(embeddings, LABELS[:, level], 0.1) for level in (0, 1))
    found = hcl(embeddings, LABELS[:, :2], [1.0, 0.3], 0.1, "mass")
    torch.testing.assert_close(found, 0.7 * species + 0.3 * genus, rtol=1e-12, atol=0)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_identical_embeddings_give_the_log_of_all_others(weighting: Literal["pair", "mass"]) -> None:
    rows = torch.randn(1, 6, dtype=torch.float64).expand(10, -1)
    assert hcl(rows, LABELS, [1.0, 0.2, 0.1], 0.1, weighting).item() == pytest.approx(math.log(9), rel=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_only_the_ratios_of_the_weights_matter(weighting: Literal["pair", "mass"]) -> None:
    embeddings = torch.randn(10, 6, dtype=torch.float64)
    found = hcl(embeddings, LABELS, [6.0, 3.0, 1.5], 0.1, weighting)
    torch.testing.assert_close(found, hcl(embeddings, LABELS, [4.0, 2.0, 1.0], 0.1, weighting), rtol=1e-12, atol=0)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_target_mass_equals_the_double_loop(weighting: Literal["pair", "mass"]) -> None:
    weights, expected = [1.0, 0.5, 0.1], [0.0, 0.0, 0.0]
    for i, row in enumerate(slow_targets(LABELS, weights, weighting)):
        for j, target in enumerate(row):
            if target:
                expected[weights.index(pair_weight(LABELS[i], LABELS[j], weights))] += target
    found = target_mass(LABELS, weights, weighting).tolist()
    assert found == pytest.approx(expected, rel=1e-12)
    assert sum(found) == pytest.approx(1, rel=1e-12)


def test_many_pairs_of_the_genus_take_most_of_the_mass_of_few_of_the_species() -> None:
    """2 positives of the species, 99 more of the genus: 0.1 * 99 of 2 + 0.1 * 99; by mass 0.1 * 99 of 101."""
    labels = torch.stack([torch.arange(102) // 3, torch.zeros(102, dtype=torch.int64)], dim=1)
    assert target_mass(labels, [1.0, 0.1], "pair")[1].item() == pytest.approx(9.9 / 11.9, rel=1e-12)
    assert target_mass(labels, [1.0, 0.1], "mass")[1].item() == pytest.approx(9.9 / 101, rel=1e-12)


def test_a_batch_without_positives_raises_and_names_the_level() -> None:
    rows = torch.randn(4, 6)
    only_genus = torch.tensor([[0, 0], [1, 0], [2, 1], [3, 1]])
    with pytest.raises(NoPositivesError, match=r"level 0 \(0 is the finest\).*images_per_class"):
        hcl(rows, only_genus, [1.0, 0.1], 0.1, "mass")
    with pytest.raises(NoPositivesError, match="a level whose weight is above 0"):
        hcl(rows, only_genus, [1.0, 0.0], 0.1)
    assert hcl(rows, only_genus, [1.0, 0.1], 0.1).isfinite()  # by pair the genus is enough
    only_coarse = torch.tensor([[0, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert hcl(rows[:3], only_coarse, [1.0, 1.0, 1.0], 0.1, "mass").isfinite()
    with pytest.raises(NoPositivesError, match="level 1"):
        hcl(rows[:2], only_coarse[:2], [1.0, 1.0, 0.5], 0.1, "mass")


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("weights", [[0.0, 0.0], [0.1, 1.0], [1.0, -0.1], [math.nan, 0.1], [math.inf, 1.0]])
def test_weights_that_rise_or_do_not_begin_above_0_are_named(
    weights: list[float], weighting: Literal["pair", "mass"]
) -> None:
    with pytest.raises(ValueError, match=rf"level_weights \[{weights[0]}, {weights[1]}\]"):
        hcl(torch.randn(10, 6), LABELS[:, :2], weights, 0.1, weighting)


def test_an_unknown_weighting_is_named() -> None:
    with pytest.raises(ValueError, match=r"'both'.*'pair', 'mass' or 'ignore'"):
        hcl(torch.randn(10, 6), LABELS[:, :2], [1.0, 0.1], 0.1, "both")  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [[1.0, 0.1], [1.0, 1.0, 0.3], [1.0, 0.2, 0.0]])
@pytest.mark.parametrize("labels", [LABELS, CROSSED])
def test_ignored_pairs_are_neither_positives_nor_negatives(labels: Tensor, weights: list[float]) -> None:
    embeddings, labels = torch.randn(len(labels), 6, dtype=torch.float64), labels[:, : len(weights)]
    rows = [[x / math.hypot(*row) for x in row] for row in embeddings.tolist()]
    anchors = []
    for i, anchor in enumerate(rows):
        logits, positives = dict[int, float](), list[int]()
        for j, other in enumerate(rows):
            same = [labels[i, level] == labels[j, level] and weight > 0 for level, weight in enumerate(weights)]
            if j != i and (same[0] or not any(same)):
                logits[j] = sum(a * b for a, b in zip(anchor, other, strict=True)) / 0.1
                positives += [j] * bool(same[0])
        if positives:
            log_total = math.log(sum(map(math.exp, logits.values())))
            anchors.append(sum(log_total - logits[j] for j in positives) / len(positives))
    found = hcl(embeddings, labels, weights, 0.1, "ignore")
    assert found.item() == pytest.approx(sum(anchors) / len(anchors), rel=1e-12)


def test_ignored_pairs_have_no_gradient() -> None:
    """Rows 0 and 1 are one species; all others are of their genus alone, so that their rows have no pair left."""
    embeddings = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 0], [0, 0], [1, 0], [2, 0], [3, 0]])
    hcl(embeddings, labels, [1.0, 0.1], 0.1, "ignore").backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert (embeddings.grad[2:] == 0).all()
