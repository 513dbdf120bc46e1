"""Labels -> rows: which labeled images a linear probe may learn from, which it holds out to choose its rate."""

import numpy as np
from numpy.typing import NDArray

from fgssl.randomness import uniform

Rows = NDArray[np.int64]


def stratified_subset(labels: NDArray[np.int64], fraction: float, seed: int) -> Rows:
    """Return ascending rows (M,) of a random `fraction` of every class of `labels` (N,).

    Rounded half up per class, at least one image of each. Nested: a smaller fraction under the same seed lies inside
    a larger one.
    """
    ranks, sizes = _rank_in_class(labels, uniform(seed, "label fraction", rows=np.arange(len(labels)), columns=1)[:, 0])
    return np.flatnonzero(ranks < np.maximum(1, np.floor(fraction * sizes + 0.5)))


def grouped_split(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, seed: int
) -> tuple[Rows, Rows]:
    """Return (rows to fit on, rows to validate on), ascending; `fraction` of the images of each class is held out.

    Whole groups, so that frames of one track never stand on both sides; a group counts for the class of its first
    row in `labels` (N,). Of a class with two groups or more at least one stands on either side, its only group
    otherwise is fitted on. The rows to validate on are empty where no class has two groups.
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
    """Return the groups of one class to hold out, `members` being in random order."""
    if len(members) < 2:
        return []
    wanted, taken, chosen = fraction * sizes[members].sum(), 0, []
    for group in members.tolist():
        if taken + sizes[group] / 2 <= wanted:  # a group goes in where that comes nearer to the wanted number
            chosen.append(group)
            taken += sizes[group]
    if not chosen:
        return [int(members[np.argmin(sizes[members])])]
    return chosen[:-1] if len(chosen) == len(members) else chosen


def _rank_in_class(labels: NDArray[np.int64], keys: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each row's place among the keys of its class (N,), and the size of its class (N,)."""
    _, class_of_row, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((keys, class_of_row))
    starts = np.cumsum(counts) - counts
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(labels)) - starts[class_of_row[order]]
    return ranks, counts[class_of_row]
