"""Weighted kNN against scikit-learn and examples computed by hand."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from fgssl.errors import NonFiniteError
from fgssl.evaluation import cosine
from fgssl.evaluation.knn import _nearest, weighted_knn


def clustered(seed: int) -> tuple[torch.Tensor, NDArray[np.int64], torch.Tensor, NDArray[np.int64]]:
    random = torch.Generator().manual_seed(seed)
    centers = torch.randn(12, 10, generator=random)
    train_labels, test_labels = (torch.randint(0, 12, (images,), generator=random) for images in (300, 200))
    train, test = (
        centers[labels] + 1.3 * torch.randn(len(labels), 10, generator=random) for labels in (train_labels, test_labels)
    )
    return train, train_labels.numpy(), test, test_labels.numpy()


@pytest.mark.parametrize(("neighbors", "temperature"), [(1, 0.07), (7, 0.07), (20, 0.07), (20, 1.0), (300, 0.1)])
@pytest.mark.parametrize("pairs_at_once", [1, 9 * 300, 2**25])
def test_equals_scikit_learn(
    neighbors: int, temperature: float, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cosine, "PAIRS_AT_ONCE", pairs_at_once)
    monkeypatch.setattr(cosine, "GALLERY_AT_ONCE", 50)
    for seed in range(3):
        train, train_labels, test, test_labels = clustered(seed)
        oracle = KNeighborsClassifier(
            neighbors,
            metric="cosine",
            algorithm="brute",
            weights=lambda distances: np.exp((1 - distances) / temperature),
        ).fit(train.double().numpy(), train_labels + 5)
        expected = 100 * oracle.score(test.double().numpy(), test_labels + 5)
        percent = weighted_knn(train, train_labels + 5, test, test_labels + 5, neighbors, temperature)
        assert 10 < expected < 95
        assert percent == pytest.approx(expected, abs=1e-9)


def test_one_near_image_outvotes_two_far_ones_at_a_low_temperature() -> None:
    degrees = torch.tensor([10.0, 40.0, 40.0]).deg2rad()
    train, query = torch.stack([degrees.cos(), degrees.sin()], dim=1), torch.tensor([[5.0, 0.0]])
    # Equal where exp(cos 10 / t) = 2 exp(cos 40 / t): t = (cos 10 - cos 40) / ln 2.
    even = (math.cos(math.radians(10)) - math.cos(math.radians(40))) / math.log(2)
    for temperature, percent in ((0.99 * even, 100.0), (1.01 * even, 0.0), (1e-5, 100.0)):
        for near, far in ((0, 1), (1, 0)):
            labels, truth = np.array([near, far, far]), np.array([near])
            assert weighted_knn(train, labels, query, truth, 3, temperature) == percent


def test_of_equally_near_images_the_first_rows_count() -> None:
    train = torch.tensor([[1.0, 0.0]] * 6 + [[1.0, 0.1]])
    query, truth = torch.tensor([[1.0, 0.1]]), np.array([7])
    # Next to the last row, rows 0, 1 and 2 are taken.
    assert weighted_knn(train, np.array([7, 7, 7, 9, 9, 9, 9]), query, truth, 4, 0.07) == 100.0
    assert weighted_knn(train, np.array([9, 9, 7, 7, 7, 7, 9]), query, truth, 4, 0.07) == 0.0


def test_the_nearest_are_the_first_of_a_stable_sort() -> None:
    random = torch.Generator().manual_seed(0)
    similarity = torch.randn(40, 30, generator=random)
    similarity[::2] = similarity[::2].round()  # ties in every other row
    for number in (1, 5, 29, 30):
        expected = similarity.argsort(dim=1, descending=True, stable=True)[:, :number].sort(dim=1).values
        assert torch.equal(_nearest(similarity, number), expected)


def test_of_equal_votes_the_smaller_label_wins() -> None:
    train, query = torch.ones(2, 3), torch.ones(1, 3)
    for labels in ([4, 2], [2, 4]):
        assert weighted_knn(train, np.array(labels), query, np.array([2]), 2, 0.07) == 100.0


def test_a_test_class_without_training_images_is_wrong() -> None:
    assert weighted_knn(torch.eye(2), np.array([0, 1]), torch.eye(2), np.array([0, 9]), 1, 0.07) == 50.0


def test_errors() -> None:
    labels = np.array([0, 1])
    broken = torch.tensor([[1.0, torch.nan], [0.0, 1.0]])
    with pytest.raises(NonFiniteError, match="kNN: the features of the training images"):
        weighted_knn(broken, labels, torch.eye(2), labels, 1, 0.07)
    with pytest.raises(NonFiniteError, match="kNN: the features of the test images"):
        weighted_knn(torch.eye(2), labels, broken, labels, 1, 0.07)


def test_wrong_shapes_and_temperatures() -> None:
    labels = np.array([0, 1])
    for temperature in (1e-309, 0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be at least 1e-30"):
            weighted_knn(torch.eye(2), labels, torch.eye(2), labels, 1, temperature)
    assert weighted_knn(torch.eye(2), labels, torch.eye(2), labels, 2, 1e-30) == 100.0
    with pytest.raises(ValueError, match=r"features of widths 2 \(training\) and 3 \(test\)"):
        weighted_knn(torch.eye(2), labels, torch.eye(3)[:2], labels, 1)
    for neighbors in (0, 3):
        with pytest.raises(ValueError, match=f"neighbors {neighbors}: must be from 1 to the number"):
            weighted_knn(torch.eye(2), labels, torch.eye(2), labels, neighbors)
