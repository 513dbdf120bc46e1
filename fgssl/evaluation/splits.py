"""Rows for a linear probe: the labeled images that it may learn from, and those held out to choose its rate."""

import numpy as np
from numpy.typing import NDArray

from fgssl.randomness import uniform

Rows = NDArray[np.int64]
"""Indices of images in a split."""


def stratified_subset(labels: NDArray[np.int64], fraction: float, seed: int) -> Rows:
    """Return the ascending rows (M,) of a random `fraction` of every class of `labels` (N,).

    The number per class is rounded half up, and at least one. Under one seed the rows of a smaller fraction are a
    subset of those of a larger one.
    """
    ranks, sizes = _rank_in_class(labels, uniform(seed, "label fraction", rows=np.arange(len(labels)), columns=1)[:, 0])
    return np.flatnonzero(ranks < np.maximum(1, np.floor(fraction * sizes + 0.5)))


def grouped_split(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, seed: int
) -> tuple[Rows, Rows]:
    """Return (rows to fit on, rows held out), both ascending; about `fraction` of the images of each class is held out.

    `groups` (N,) are never divided, so that frames of one track are not on both sides. A group belongs to the class of
    its first row in `labels` (N,). A class with two or more groups has at least one on either side; the only group of
    a class is fitted on. No row is held out if no class has two groups.
    """
    ids, first_row, group_of_row, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    classes = labels[first_row]  # (G,)
    order = np.lexsort((uniform(seed, "validation split", rows=ids, columns=1)[:, 0], classes))
    held_out = np.zeros(len(ids), dtype=bool)
    for members in np.split(order, np.flatnonzero(np.diff(classes[order])) + 1):
        held_out[_held_out(members, sizes, fraction)] = True
    validated = held_out[group_of_row]
    return np.flatnonzero(~validated), np.flatnonzero(validated)


def _held_out(members: Rows, sizes: NDArray[np.int64], fraction: float) -> list[int]:
    """Return the groups of one class to hold out; `members` are its groups in random order."""
    if len(members) < 2:
        return []
    wanted, taken, chosen = fraction * sizes[members].sum(), 0, []
    for group in members.tolist():
        if taken + sizes[group] / 2 <= wanted:  # with the group, the number comes nearer to the wanted one
            chosen.append(group)
            taken += sizes[group]
    if not chosen:
        return [int(members[np.argmin(sizes[members])])]
    return chosen[:-1] if len(chosen) == len(members) else chosen


def _rank_in_class(labels: NDArray[np.int64], keys: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each row its rank by `keys` within its class, (N,), and the size of its class, (N,)."""
    _, class_of_row, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((keys, class_of_row))
    starts = np.cumsum(counts) - counts
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(labels)) - starts[class_of_row[order]]
    return ranks, counts[class_of_row]
