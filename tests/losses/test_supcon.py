"""SupCon against a double loop and pytorch-metric-learning, and in closed form."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor

from fgssl.errors import NoPositivesError
from fgssl.losses import nt_xent, supcon

LABELS = torch.tensor([3, 1, 1, 2, 3, 3, 9, 1])  # 2 and 9 stand alone


def slow(embeddings: Tensor, labels: Tensor, temperature: float) -> float:
    """Compute Eq. 2, one anchor and one positive at a time; the mean excludes anchors without a positive."""
    rows = [[x / math.hypot(*row) for x in row] for row in embeddings.tolist()]
    losses = []
    for i, anchor in enumerate(rows):
        logits = [sum(a * b for a, b in zip(anchor, row, strict=True)) / temperature for row in rows]
        others = [j for j in range(len(rows)) if j != i]
        log_total = math.log(sum(math.exp(logits[j]) for j in others))
        positives = [j for j in others if labels[j] == labels[i]]
        if positives:
            losses.append(-sum(logits[j] - log_total for j in positives) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_equals_the_double_loop_where_two_anchors_have_no_positive(temperature: float) -> None:
    embeddings = torch.randn(8, 6, dtype=torch.float64)
    found = supcon(embeddings, LABELS, temperature)
    assert found.item() == pytest.approx(slow(embeddings, LABELS, temperature), rel=1e-12)


@pytest.mark.parametrize("labels", [LABELS, torch.arange(4).repeat(2), torch.arange(8) // 7])
def test_equals_pytorch_metric_learning(labels: Tensor) -> None:
    embeddings = torch.randn(8, 6, dtype=torch.float64)  # no anchor's loss is 0, which theirs would leave out
    torch.testing.assert_close(supcon(embeddings, labels, 0.1), SupConLoss(0.1)(embeddings, labels), rtol=1e-12, atol=0)


def test_is_nt_xent_where_each_label_is_an_image_of_two_views() -> None:
    first, second = torch.randn(2, 5, 6, dtype=torch.float64)
    found = supcon(torch.cat([first, second]), torch.arange(5).repeat(2), 0.1)
    torch.testing.assert_close(found, nt_xent(first, second, 0.1), rtol=1e-12, atol=0)


def test_identical_embeddings_give_the_log_of_all_others() -> None:
    rows = torch.randn(1, 6, dtype=torch.float64).expand(8, -1)
    assert supcon(rows, LABELS, 0.1).item() == pytest.approx(math.log(7), rel=1e-12)


def test_an_anchor_whose_loss_is_zero_counts_in_the_mean() -> None:
    """At this temperature p = 1 for the first pair, in float64 to the last digit; the second pair is a quarter turn."""
    embeddings = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    assert supcon(embeddings, labels, 0.01).item() == pytest.approx((0 + 0 + 2 * math.log(3)) / 4, rel=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_a_batch_without_positives_raises(rows: int) -> None:
    with pytest.raises(NoPositivesError, match=rf"{rows} rows share a label.*images_per_class"):
        supcon(torch.randn(rows, 6), torch.arange(rows), 0.1)
