"""Which images a step sees, as a pure function of seed and step: resuming is an argument, not a state."""

import functools

import numpy as np
from numpy.typing import NDArray

from fgssl import randomness


def steps_per_epoch(dataset_size: int, global_batch_size: int) -> int:
    """Whole batches in an epoch; the last partial one is dropped."""
    return dataset_size // global_batch_size


def epoch_of_step(step: int, dataset_size: int, global_batch_size: int) -> int:
    return step // steps_per_epoch(dataset_size, global_batch_size)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, dataset_size: int) -> NDArray[np.int64]:
    return randomness.permutation(seed, "order", epoch, length=dataset_size)


def rows_of_step(step: int, dataset_size: int, global_batch_size: int, seed: int) -> NDArray[np.int64]:
    """(N,) dataset rows of the global batch of `step`, counted from 0 over all epochs."""
    epoch, position = divmod(step, steps_per_epoch(dataset_size, global_batch_size))
    order = _order(seed, epoch, dataset_size)
    return order[position * global_batch_size : (position + 1) * global_batch_size]
