"""Retrieval against a double loop from the definition, scikit-learn and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMAP

from fgssl.errors import DataError, NonFiniteError
from fgssl.evaluation import cosine
from fgssl.evaluation.ranking import retrieval


def clustered(images: int, width: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images,), generator=random)
    centers = torch.randn(classes, width, generator=random)
    return 0.7 * centers[labels] + torch.randn(images, width, generator=random), labels


def slow(features: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor | None = None) -> dict[str, float]:
    """Compute the definition, one query and one rank at a time."""
    rows = features.double().tolist()
    groups = torch.arange(len(rows)) if groups is None else groups
    hits_1, hits_5, precisions = [], [], []
    for query, vector in enumerate(rows):
        scored = []
        for other, candidate in enumerate(rows):
            if groups[other] != groups[query]:
                product = sum(a * b for a, b in zip(vector, candidate, strict=True))
                scored.append((-product / math.hypot(*vector) / math.hypot(*candidate), other))
        relevant = [bool(labels[other] == labels[query]) for _, other in sorted(scored)]
        if any(relevant):
            hits_1.append(relevant[0])
            hits_5.append(any(relevant[:5]))
            at_hits = [sum(relevant[: rank + 1]) / (rank + 1) for rank, hit in enumerate(relevant) if hit]
            precisions.append(sum(at_hits) / len(at_hits))
    return {
        "rank1": 100 * sum(hits_1) / len(hits_1),
        "rank5": 100 * sum(hits_5) / len(hits_5),
        "mAP": 100 * sum(precisions) / len(precisions),
    }


@pytest.mark.parametrize("pairs_at_once", [7 * 60, 2**25])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_double_loop(seed: int, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosine, "PAIRS_AT_ONCE", pairs_at_once)
    monkeypatch.setattr(cosine, "GALLERY_AT_ONCE", 50)
    features, labels = clustered(images=60, width=8, classes=20, seed=seed)
    labels[0] = 99  # a query without a positive, that stays in the gallery
    assert retrieval(features, labels) == pytest.approx(slow(features, labels), abs=1e-10)


@pytest.mark.parametrize("pairs_at_once", [7 * 60, 2**25])
@pytest.mark.parametrize("seed", range(3))
def test_across_groups_equals_the_double_loop(seed: int, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosine, "PAIRS_AT_ONCE", pairs_at_once)
    features, labels = clustered(images=60, width=8, classes=10, seed=seed)
    random = np.random.default_rng(seed)
    groups = torch.tensor(labels.numpy() * 3 + random.integers(0, 3, 60))  # within a class, as tracks are
    groups[:4] = groups[4]  # a group of several classes
    labels[5:8], groups[5:8] = 99, 99  # positives in the query's own group only
    found = retrieval(features, labels, groups=groups.numpy())
    assert found == pytest.approx(slow(features, labels, groups), abs=1e-10)
    assert found != retrieval(features, labels)
    assert retrieval(features, labels, groups=torch.arange(60)) == retrieval(features, labels)


def test_frames_of_one_track_are_no_find() -> None:
    """Every frame equals those of its track; the other track of its class is the farthest of all."""
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.1], [-1.0, 0.1], [0.0, 1.0], [0.0, 1.0]])
    labels, groups = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 2, 2])
    assert retrieval(features, labels) == {"rank1": 100, "rank5": 100, "mAP": pytest.approx(80)}
    across = retrieval(features, labels, groups=groups)
    # Behind the two images of class 1 come the positives: precisions 1/3 and 2/4, at all four queries of class 0.
    assert across == pytest.approx({"rank1": 0, "rank5": 100, "mAP": 100 * (1 / 3 + 1 / 2) / 2})
    with pytest.raises(DataError, match=r"no two of the 2 test images \(in different groups, if there are any\) share"):
        retrieval(features[:2], labels[:2], groups=groups[:2])
    with pytest.raises(ValueError, match=r"groups of shape \(5,\): must be \(N,\)"):
        retrieval(features, labels, groups=groups[:5])


def test_equals_scikit_learn_and_torchmetrics() -> None:
    features, labels = clustered(images=150, width=16, classes=12, seed=4)
    directions = torch.nn.functional.normalize(features.double(), dim=1)
    others = ~torch.eye(150, dtype=torch.bool)
    scores = (directions @ directions.T)[others].view(150, 149)
    relevant = (labels[:, None] == labels[None])[others].view(150, 149)
    indexes = torch.arange(150)[:, None].expand(150, 149)
    # RetrievalMAP drops positives with a score <= 0: cosines are moved to [0, 1].
    inputs = ((1 + scores).flatten() / 2, relevant.flatten(), indexes.flatten())

    measures = retrieval(features, labels)
    by_query = [average_precision_score(relevant[row].numpy(), scores[row].numpy()) for row in range(150)]
    assert measures["mAP"] == pytest.approx(100 * np.mean(by_query), abs=1e-9)
    assert measures["mAP"] == pytest.approx(100 * RetrievalMAP()(*inputs).item(), abs=1e-4)
    assert measures["rank1"] == pytest.approx(100 * RetrievalHitRate(top_k=1)(*inputs).item(), abs=1e-4)
    assert measures["rank5"] == pytest.approx(100 * RetrievalHitRate(top_k=5)(*inputs).item(), abs=1e-4)


def test_known_ranking() -> None:
    degrees = torch.tensor([0.0, 10.0, 25.0, 45.0]).deg2rad()
    features = 3 * torch.stack([degrees.cos(), degrees.sin()], dim=1)
    labels = torch.tensor([0, 1, 0, 1])
    # Each has one positive. 0 ranks 1 2 3: place 2; 1 ranks 0 2 3: place 3; 2 ranks 1 3 0: place 3; 3 ranks 2 1 0: 2.
    assert retrieval(features, labels) == pytest.approx(
        {"rank1": 0.0, "rank5": 100.0, "mAP": 100 * (1 / 2 + 1 / 3 + 1 / 3 + 1 / 2) / 4}
    )


def test_scale_of_a_feature_does_not_count() -> None:
    features, labels = clustered(images=50, width=8, classes=5, seed=0)
    powers = 2.0 ** torch.randint(-3, 4, (50, 1), generator=torch.Generator().manual_seed(0))
    assert retrieval(features * powers, labels) == pytest.approx(retrieval(features, labels), abs=1e-9)


def test_ties_stand_in_the_order_of_the_rows() -> None:
    features = torch.tensor([[1.0, 0.0]] * 4)
    # 0 ranks 1 2 3, 1 ranks 0 2 3, 2 ranks 0 1 3 and 3 ranks 0 1 2; only 0 and 3 are alike.
    measures = retrieval(features, torch.tensor([5, 6, 7, 5]))
    assert measures == pytest.approx({"rank1": 50.0, "rank5": 100.0, "mAP": 100 * (1 / 3 + 1) / 2})


def test_ties_among_other_queries_equal_the_double_loop() -> None:
    """Classes of one image to 25; copies tie exactly, since coordinates of 3-4-5 triangles have exact lengths."""
    random = torch.Generator().manual_seed(0)
    corners = torch.tensor([[3.0, 4, 0], [4, 3, 0], [0, 3, 4], [-3, 0, 4], [0, 0, -5], [5, 0, 0]])
    features = torch.cat(
        [corners[torch.randint(0, 6, (40,), generator=random)], torch.eye(3), torch.randn(3, 3, generator=random)]
    )
    labels = torch.cat([torch.zeros(25), torch.arange(21) % 7]).long()[torch.randperm(46, generator=random)]
    assert retrieval(features, labels) == pytest.approx(slow(features, labels), abs=1e-10)


def test_fewer_than_five_others() -> None:
    assert retrieval(torch.eye(2), torch.tensor([1, 1])) == {"rank1": 100.0, "rank5": 100.0, "mAP": 100.0}


def test_nearly_equal_features_keep_their_order() -> None:
    features, labels = clustered(images=60, width=8, classes=6, seed=1)
    features = 1 + 1e-4 * features  # cosines differ in the 8th digit: sums in single precision would lose them
    assert retrieval(features, labels) == pytest.approx(slow(features, labels), abs=1e-10)


def test_takes_arrays_too() -> None:
    features, labels = clustered(images=50, width=8, classes=5, seed=0)
    expected = retrieval(features, labels)
    assert retrieval(features, labels.numpy()) == expected
    assert retrieval(features.numpy(), labels.numpy()) == expected


def test_errors() -> None:
    with pytest.raises(DataError, match="no query has a positive"):
        retrieval(torch.eye(3), torch.tensor([0, 1, 2]))
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        retrieval(torch.tensor([[1.0], [float("nan")]]), torch.tensor([0, 0]))
