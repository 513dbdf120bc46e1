"""Outliers against scikit-learn, a slow loop from the definition, and examples computed by hand."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from fgssl.errors import DataError, NonFiniteError
from fgssl.evaluation import centroids
from fgssl.evaluation.centroids import outliers

Data = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def clustered(images: int, width: int, classes: int, seed: int) -> Data:
    """Return train and test features around common centers, with various lengths and numbers of images."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, width, generator=random)
    split = []
    for _ in range(2):
        labels = (classes * torch.rand(images, generator=random) ** 2).long()
        lengths = 1 + 3 * torch.rand(images, 1, generator=random)
        split += [lengths * (centers[labels] + 1.5 * torch.randn(images, width, generator=random)), labels]
    train, train_labels, test, test_labels = split
    return train, train_labels, test, test_labels


def slow(train: torch.Tensor, train_labels: torch.Tensor, test: torch.Tensor, test_labels: torch.Tensor) -> int:
    """Compute the definition, one image at a time."""

    def direction(vector: list[float]) -> list[float]:
        return [value / math.hypot(*vector) for value in vector]

    members = defaultdict(list)
    for vector, label in zip(train.double().tolist(), train_labels.tolist(), strict=True):
        members[label].append(direction(vector))
    centroid = {
        label: direction([sum(column) / len(vectors) for column in zip(*vectors, strict=True)])
        for label, vectors in sorted(members.items())
    }
    wrong = 0
    for vector, own in zip(test.double().tolist(), test_labels.tolist(), strict=True):
        cosine = {
            label: sum(a * b for a, b in zip(direction(vector), other, strict=True))
            for label, other in centroid.items()
        }
        wrong += max(cosine, key=lambda label: cosine[label]) != own
    return wrong


@pytest.mark.parametrize("images_at_once", [7, 4096])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_slow_loop(seed: int, images_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centroids, "IMAGES_AT_ONCE", images_at_once)
    data = clustered(images=150, width=6, classes=9, seed=seed)
    assert 30 < slow(*data) < 140
    assert outliers(*data) == slow(*data)


@pytest.mark.parametrize("seed", range(4))
def test_equals_scikit_learn(seed: int) -> None:
    train, train_labels, test, test_labels = clustered(images=400, width=12, classes=20, seed=seed)
    train_directions, test_directions = (
        torch.nn.functional.normalize(features.double(), dim=1).numpy() for features in (train, test)
    )
    model = NearestCentroid().fit(train_directions, train_labels.numpy())
    # Its distance is Euclidean: to centroids of length 1 it has the order of the cosine.
    model.centroids_ /= np.linalg.norm(model.centroids_, axis=1, keepdims=True)
    expected = int((model.predict(test_directions) != test_labels.numpy()).sum())
    assert outliers(train, train_labels, test, test_labels) == expected


def test_example_by_hand() -> None:
    train = torch.tensor([[9.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # Class 4 has (9, 0) and (0, 1): normalized, their mean points to 45 degrees; class 2 lies at 180 degrees.
    labels = torch.tensor([4, 4, 2])
    degrees = torch.tensor([0.0, 44.0, 112.0, 113.0, 181.0]).deg2rad()
    test = torch.stack([degrees.cos(), degrees.sin()], dim=1)
    # The border between 45 and 180 degrees is at 112.5; were (9, 0) not normalized, it would be at about 93.
    assert outliers(train, labels, test, torch.tensor([4, 4, 4, 2, 2])) == 0
    assert outliers(train, labels, test, torch.tensor([4, 2, 2, 4, 4])) == 4


def test_takes_arrays_too() -> None:
    train, train_labels, test, test_labels = clustered(images=60, width=6, classes=4, seed=0)
    expected = outliers(train, train_labels, test, test_labels)
    assert 0 < expected < 60
    assert outliers(train, train_labels.numpy(), test, test_labels.numpy()) == expected
    assert outliers(train.numpy(), train_labels.numpy(), test.numpy(), test_labels.numpy()) == expected


def test_ties_go_to_the_smaller_label() -> None:
    # Three classes of the same directions, in another order and number: rounding must not decide.
    random = torch.Generator().manual_seed(0)
    once = torch.randn(7, 5, generator=random)
    train = torch.cat([once, once.flip(0).repeat(3, 1), once[torch.randperm(7, generator=random)]])
    labels = torch.tensor([8] * 7 + [3] * 21 + [5] * 7)
    test = torch.randn(50, 5, generator=random)
    assert outliers(train, labels, test, torch.full((50,), 3)) == 0
    assert outliers(train, labels, test, torch.full((50,), 5)) == 50


def test_collapsed_features_all_lie_at_the_smallest_label() -> None:
    features = torch.full((90, 64), 0.1)
    labels = torch.tensor([1] * 50 + [0] * 10 + [2] * 30)
    assert outliers(features, labels, features, labels) == 80
    assert outliers(0 * features, labels, features, labels) == 80
    assert outliers(features, labels, 0 * features, labels) == 80


def test_a_test_class_without_train_images_is_always_wrong() -> None:
    features = torch.eye(3)
    assert outliers(features[:2], torch.tensor([0, 1]), features, torch.tensor([0, 1, 2])) == 1


def test_nearly_equal_features_keep_their_classes() -> None:
    train, train_labels, test, test_labels = clustered(images=100, width=6, classes=5, seed=2)
    train, test = 1 + 1e-3 * train, 1 + 1e-3 * test  # cosines differ in the 6th digit and after
    assert outliers(train, train_labels, test, test_labels) == slow(train, train_labels, test, test_labels)


def test_errors() -> None:
    features, labels = torch.eye(2), torch.tensor([0, 1])
    empty, none = torch.empty(0, 2), torch.empty(0, dtype=torch.int64)
    with pytest.raises(DataError, match="no training images"):
        outliers(empty, none, features, labels)
    with pytest.raises(DataError, match="no test images"):
        outliers(features, labels, empty, none)
    broken = torch.tensor([[1.0, torch.inf], [0.0, 1.0]])
    with pytest.raises(NonFiniteError, match="outliers: the features of the training images"):
        outliers(broken, labels, features, labels)
    with pytest.raises(NonFiniteError, match="outliers: the features of the test images"):
        outliers(features, labels, broken, labels)
