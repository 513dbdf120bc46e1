"""Class centroids of kept features, for figures. The measures use `fgssl.evaluation.centroids`, which needs torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGES_AT_ONCE = 1024
TIE = 1e-12
"""Largest difference of two cosines that counts as a tie, as in `fgssl.evaluation.centroids`."""


def unit_rows(features: NDArray[Any]) -> NDArray[np.float64]:
    """Return l2-normalized rows (N, D) in double precision; a row of zeros stays one."""
    rows = features.astype(np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(length, 1e-12)


def centroids(features: NDArray[Any], labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the classes (C,) that have images, and their centroids (C, D): means of unit rows, of unit length."""
    classes, class_of_row = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), features.shape[1]))
    for first in range(0, len(features), IMAGES_AT_ONCE):
        part = slice(first, first + IMAGES_AT_ONCE)
        np.add.at(sums, class_of_row[part], unit_rows(features[part]))
    return classes, unit_rows(sums)


def nearest_classes(train: NDArray[Any], labels: NDArray[np.int64], test: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class (M,) whose centroid has the largest cosine to each test image; the smallest of tied ones."""
    classes, centers = centroids(train, labels)
    found = []
    for first in range(0, len(test), IMAGES_AT_ONCE):
        cosine = unit_rows(test[first : first + IMAGES_AT_ONCE]) @ centers.T
        found.append((cosine >= cosine.max(axis=1, keepdims=True) - TIE).argmax(axis=1))
    return classes[np.concatenate(found)]
