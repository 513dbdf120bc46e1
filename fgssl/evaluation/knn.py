"""Features -> accuracy of a vote of the nearest training images."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from fgssl.evaluation.features import require_finite
from fgssl.progress import Track, silent

QUERIES_AT_ONCE = 128
"""Rows of the similarity matrix held in memory; no result depends on it beyond rounding."""


def weighted_knn(
    train_features: Tensor | NDArray[Any],
    train_labels: Tensor | NDArray[Any],
    test_features: Tensor | NDArray[Any],
    test_labels: Tensor | NDArray[Any],
    neighbors: int = 20,
    temperature: float = 0.07,
    track: Track = silent,
) -> float:
    """Return the percentage of test images whose neighbors vote for their label (Wu et al. 2018, section 3.4).

    Features (N, D) and (M, D) on one device, labels (N,) and (M,), all tensors or arrays. The K = `neighbors` training
    images of the largest cosine s vote for their class with weight exp(s / temperature); of equally near ones the first
    rows count, of equal votes the smaller label. A test class without training images is always wrong.

    Raises `NonFiniteError` for features that are not finite.
    """
    train_features, test_features = torch.as_tensor(train_features), torch.as_tensor(test_features)
    require_finite(train_features, "kNN", "training")
    require_finite(test_features, "kNN", "test")
    device = train_features.device
    classes, class_of_row = torch.as_tensor(train_labels, device=device).unique(return_inverse=True)  # ascending
    labels = torch.as_tensor(test_labels, device=device)
    # In double: features of an untrained encoder nearly coincide, and their order would be lost in single.
    gallery = normalize(train_features.double(), dim=1)
    correct = 0
    with track("kNN", len(labels), "images") as advance:
        for chunk, own in zip(test_features.split(QUERIES_AT_ONCE), labels.split(QUERIES_AT_ONCE), strict=True):
            similarity = normalize(chunk.double(), dim=1) @ gallery.T  # (Q, N)
            nearest = _nearest(similarity, neighbors)  # (Q, K)
            exponents = similarity.gather(1, nearest) / temperature
            weights = (exponents - exponents.amax(dim=1, keepdim=True)).exp()  # at most 1: no temperature overflows
            ballots = one_hot(class_of_row[nearest], len(classes)).double()  # (Q, K, C)
            votes = (weights[:, None] @ ballots)[:, 0]  # (Q, C)
            correct += int((classes[votes.argmax(dim=1)] == own).sum())
            advance(len(own))
    return 100 * correct / len(labels)


def _nearest(similarity: Tensor, number: int) -> Tensor:
    """Return columns (Q, K) of the largest similarities, ascending; `topk` would pick any of those that tie."""
    last = similarity.topk(number, dim=1).values[:, -1:]
    nearer, level = similarity > last, similarity == last
    places_left = number - nearer.sum(dim=1, keepdim=True)
    taken = nearer | (level & (level.cumsum(dim=1) <= places_left))
    return taken.nonzero()[:, 1].view(len(similarity), number)
