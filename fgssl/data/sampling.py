"""Order of the images as a pure function of seed and step, so that resuming needs no sampler state."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fgssl import randomness


def steps_per_epoch(dataset_size: int, global_batch_size: int) -> int:
    """Return the number of whole batches in an epoch; the last partial one is dropped."""
    return dataset_size // global_batch_size


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, dataset_size: int) -> NDArray[np.int64]:
    return randomness.permutation(seed, "order", epoch, length=dataset_size)


def rows_of_step(step: int, dataset_size: int, global_batch_size: int, seed: int) -> NDArray[np.int64]:
    """Return the dataset rows (N,) of the global batch of `step`; within an epoch no image occurs twice.

    Steps are counted from 0 over all epochs.
    """
    epoch, position = divmod(step, steps_per_epoch(dataset_size, global_batch_size))
    order = _order(seed, epoch, dataset_size)
    return order[position * global_batch_size : (position + 1) * global_batch_size]


def balanced_rows_of_step(
    step: int, rows_of_class: Sequence[NDArray[np.int64]], images_per_class: int, global_batch_size: int, seed: int
) -> NDArray[np.int64]:
    """Return the dataset rows (N,) of a batch with `images_per_class` images of each of its classes.

    Classes and images are drawn anew at every step. The batch is in random order: neighbors share BatchNorm statistics,
    which must not reveal their class.
    """
    number = global_batch_size // images_per_class
    classes = randomness.permutation(seed, "balanced classes", step, length=len(rows_of_class))[:number]
    drawn = [
        rows_of_class[label][
            randomness.permutation(seed, "balanced images", step, int(label), length=len(rows_of_class[label]))
        ][:images_per_class]
        for label in classes
    ]
    return np.concatenate(drawn)[randomness.permutation(seed, "balanced order", step, length=global_batch_size)]


def rows_by_class(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each class that occurs in `labels` (N,), by ascending class."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
