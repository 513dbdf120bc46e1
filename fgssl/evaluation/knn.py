"""Accuracy of a weighted vote of the nearest training images."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl.evaluation.accuracy import accuracies
from fgssl.evaluation.cosine import cosine, queries_at_once
from fgssl.evaluation.features import require_images
from fgssl.progress import Track, silent

LEAST_TEMPERATURE = 1e-30
"""Smallest temperature accepted. Far below it (at 1e-309), a cosine divided by the temperature overflows to infinity,
and the vote is NaN."""


def weighted_knn(
    train_features: Tensor | NDArray[Any],
    train_labels: Tensor | NDArray[Any],
    test_features: Tensor | NDArray[Any],
    test_labels: Tensor | NDArray[Any],
    neighbors: int = 20,
    temperature: float = 0.07,
    track: Track = silent,
) -> float:
    """Return the accuracy of a weighted vote of the nearest training images (Wu et al. 2018, Sec. 3.4).

    The K = `neighbors` training images of largest cosine s vote for their class with weight exp(s / temperature). Of
    equally near images, those in earlier rows vote, and among equal votes the smallest label wins. A test image whose
    class has no training image is always wrong.

    Args:
        train_features: (N, D), any floating-point type, tensor or array; cosines are computed in float64.
        train_labels: (N,) classes.
        test_features: (M, D), on the device of `train_features`.
        test_labels: (M,) classes.
        neighbors: Number K of voters, at most N.
        temperature: Divisor of the cosines, at least 1e-30.
        track: Display of progress; none by default.

    Returns:
        Accuracy in percent.

    Raises:
        DataError: A split has no images.
        NonFiniteError: Features hold NaN or infinity.
        ValueError: Features are not 2-D or differ in width, labels are not one per feature row, `neighbors` is not in
            1 to N, or the temperature is below 1e-30.
    """
    predicted, labels = weighted_knn_classes(
        train_features, train_labels, test_features, test_labels, neighbors, temperature, track
    )
    return accuracies(predicted == labels, labels)[0]


def weighted_knn_classes(
    train_features: Tensor | NDArray[Any],
    train_labels: Tensor | NDArray[Any],
    test_features: Tensor | NDArray[Any],
    test_labels: Tensor | NDArray[Any],
    neighbors: int,
    temperature: float,
    track: Track,
) -> tuple[Tensor, Tensor]:
    """Return the class (M,) that `weighted_knn` votes for, and the true one (M,), of each test image."""
    train_features, test_features = torch.as_tensor(train_features), torch.as_tensor(test_features)
    train_labels, labels = (
        torch.as_tensor(given, device=train_features.device) for given in (train_labels, test_labels)
    )
    for split, features, given in (("training", train_features, train_labels), ("test", test_features, labels)):
        require_images("kNN", split, features, given)
    if train_features.shape[1] != test_features.shape[1]:
        widths = f"{train_features.shape[1]} (training) and {test_features.shape[1]} (test)"
        raise ValueError(f"features of widths {widths}: must be equally wide")
    if not temperature >= LEAST_TEMPERATURE:  # not `<`, which NaN would pass
        raise ValueError(f"temperature {temperature}: must be at least {LEAST_TEMPERATURE}")
    if not 1 <= neighbors <= len(train_features):
        raise ValueError(
            f"neighbors {neighbors}: must be from 1 to the number of training images, {len(train_features)}"
        )
    classes, class_of_row = train_labels.unique(return_inverse=True)  # ascending
    voted = []
    with track("kNN", len(labels), "images") as advance:
        for chunk in test_features.split(queries_at_once(len(train_features))):
            similarity = cosine(chunk, train_features)  # (Q, N)
            nearest = _nearest(similarity, neighbors)  # (Q, K)
            exponents = similarity.gather(1, nearest) / temperature
            weights = (exponents - exponents.amax(dim=1, keepdim=True)).exp()  # at most 1
            votes = weights.new_zeros(len(chunk), len(classes))  # (Q, C)
            # One voter of each query at a time, since votes that are added at once come in any order on CUDA.
            for voter, weight in zip(class_of_row[nearest].split(1, dim=1), weights.split(1, dim=1), strict=True):
                votes.scatter_add_(1, voter, weight)
            voted.append(classes[votes.argmax(dim=1)])
            advance(len(chunk))
    return torch.cat(voted), labels


def _nearest(similarity: Tensor, number: int) -> Tensor:
    """Return the columns (Q, K) of the K largest similarities (Q, N), in ascending order of the columns.

    Among ties the first columns are taken; `topk` would take any.
    """
    values, columns = similarity.topk(min(number + 1, similarity.shape[1]), dim=1)
    nearest = columns[:, :number].sort(dim=1).values
    tied = (values[:, number - 1] == values[:, -1]).nonzero()[:, 0]  # one more column is as near as the last taken
    if len(tied):
        nearest[tied] = _first_of_ties(similarity[tied], number, values[tied, number - 1 : number])
    return nearest


def _first_of_ties(similarity: Tensor, number: int, last: Tensor) -> Tensor:
    """Return the columns that `_nearest` takes, given the K-th largest similarity (Q, 1) of each query."""
    nearer, level = similarity > last, similarity == last
    places_left = number - nearer.sum(dim=1, keepdim=True)
    taken = nearer | (level & (level.cumsum(dim=1, dtype=torch.int32) <= places_left))
    return taken.nonzero()[:, 1].view(len(similarity), number)
