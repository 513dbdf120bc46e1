"""Predictions at several levels of the labels: whether they agree, and how bad mistakes are.

Classes (N, L) are given with the finest level first, and form a tree: each class lies in one class of the next level.
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Classes: TypeAlias = NDArray[np.int64]


def several_parents(labels: Classes) -> dict[int, Classes]:
    """Return the classes at each place of `labels` (N, L) that lie in several classes at the next one, if any do."""
    found = {}
    for level in range(labels.shape[1] - 1):
        classes, parents = np.unique(np.unique(labels[:, level : level + 2], axis=0)[:, 0], return_counts=True)
        if (parents > 1).any():
            found[level] = classes[parents > 1]
    return found


def paths(finest: Classes, labels: Classes) -> Classes:
    """Return the classes (M, L) at all levels of finest classes (M,), each of which occurs in `labels` (N, L)."""
    classes, rows = np.unique(labels[:, 0], return_index=True)
    return labels[rows[np.searchsorted(classes, finest)]]


def consistency(predicted: Classes, labels: Classes) -> float:
    """Return the percentage of images whose predicted classes (M, L) lie on one path of the tree of `labels` (N, L)."""
    return 100 * float((paths(predicted[:, 0], labels) == predicted).all(axis=1).mean())


def hierarchical_distance(predicted: Classes, truth: Classes, labels: Classes) -> float:
    """Return the mean height of the lowest common ancestor of prediction and truth, which is 0 if they are equal.

    A mistake within a class of the next level has height 1, and one that shares no class has height L, the height of
    the root above the last level (Bertinetto et al. 2020, arXiv:1912.09393).

    Args:
        predicted: (M,) predicted finest classes, each of which occurs in `labels`.
        truth: (M, L) true classes.
        labels: (N, L) classes of the training images.
    """
    return float(_heights(predicted, truth, labels).mean())


def mistake_severity(predicted: Classes, truth: Classes, labels: Classes) -> float:
    """Return the mean height among mistakes alone, nan if there are none; arguments as in `hierarchical_distance`.

    Further mistakes of low height lower it, so it compares encoders of equal accuracy only (Karthik et al., ICLR 2021).
    """
    heights = _heights(predicted, truth, labels)
    return float(heights[heights > 0].mean()) if heights.any() else math.nan


def _heights(predicted: Classes, truth: Classes, labels: Classes) -> Classes:
    return (paths(predicted, labels) != truth).sum(axis=1)
