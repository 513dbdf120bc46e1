"""Outliers: test images that lie nearer to another class than to their own."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from fgssl.evaluation.features import require_images

IMAGES_AT_ONCE = 128
"""Images that are converted to double precision and compared with all centroids at a time, few enough for the cache; no
result depends on it."""
TIE = 1e-12
"""Largest difference of two cosines that counts as a tie: in double precision it may be rounding."""


def outliers(
    train_features: Tensor | NDArray[Any],
    train_labels: Tensor | NDArray[Any],
    test_features: Tensor | NDArray[Any],
    test_labels: Tensor | NDArray[Any],
) -> int:
    """Return the number of test images whose nearest class centroid is not their own class's (*HCL*, Chamidullin).

    The centroid of a class is the mean of its l2-normalized train features, and the nearest centroid is the one of
    largest cosine. Among tied centroids the smallest label wins. A zero vector has cosine 0 to every centroid. A test
    image whose class has no train image is always an outlier.

    Args:
        train_features: (N, D), any floating-point type; cosines are computed in float64.
        train_labels: (N,) integer classes.
        test_features: (M, D), on the device of `train_features`.
        test_labels: (M,) integer classes.

    Returns:
        Count of test images, from 0 (best) to M.

    Raises:
        DataError: A split has no images.
        NonFiniteError: Features hold NaN or infinity.
        ValueError: Labels have another shape.
    """
    nearest = nearest_classes(train_features, train_labels, test_features, test_labels)
    return int((nearest != torch.as_tensor(test_labels, device=nearest.device)).sum())


def nearest_classes(
    train_features: Tensor | NDArray[Any],
    train_labels: Tensor | NDArray[Any],
    test_features: Tensor | NDArray[Any],
    test_labels: Tensor | NDArray[Any],
    measure: str = "outliers",
) -> Tensor:
    """Return the class (M,) of the centroid that is nearest to each test image, as `outliers` finds it.

    `measure` names the measure in errors.
    """
    train_features, test_features = torch.as_tensor(train_features), torch.as_tensor(test_features)
    train_labels, labels = (
        torch.as_tensor(given, device=train_features.device) for given in (train_labels, test_labels)
    )
    for split, features, given in (("training", train_features, train_labels), ("test", test_features, labels)):
        require_images(measure, split, features, given)
    classes, class_of_row = train_labels.unique(return_inverse=True)  # ascending
    # Double precision, because features of an untrained encoder nearly coincide. The sum stands in for the mean, whose
    # length has no effect. CUDA adds in any order, which differs by less than TIE.
    sums = train_features.new_zeros(len(classes), train_features.shape[1], dtype=torch.float64)
    for chunk, rows in zip(train_features.split(IMAGES_AT_ONCE), class_of_row.split(IMAGES_AT_ONCE), strict=True):
        sums.index_add_(0, rows, normalize(chunk.double(), dim=1))
    centroids = normalize(sums, dim=1)  # (C, D)
    found = []
    for chunk in test_features.split(IMAGES_AT_ONCE):
        cosine = normalize(chunk.double(), dim=1) @ centroids.T  # (Q, C)
        nearest = (cosine >= cosine.amax(dim=1, keepdim=True) - TIE).int().argmax(dim=1)  # the first of those that tie
        found.append(classes[nearest])
    return torch.cat(found)
