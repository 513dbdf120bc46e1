"""Which images a step sees: a permutation an epoch, whole batches, a function of seed and step."""

import numpy as np
import pytest

from fgssl.data.sampling import epoch_of_step, rows_of_step, steps_per_epoch


def test_the_last_partial_batch_is_dropped() -> None:
    assert [steps_per_epoch(size, 32) for size in (31, 32, 63, 64, 100)] == [0, 1, 1, 2, 3]
    assert [epoch_of_step(step, 100, 32) for step in range(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_an_epoch_shows_every_image_at_most_once() -> None:
    for epoch in range(3):
        seen = np.concatenate([rows_of_step(step, 100, 32, seed=0) for step in range(3 * epoch, 3 * epoch + 3)])
        assert seen.dtype == np.int64
        assert len(seen) == 96
        assert len(set(seen.tolist())) == 96
        assert set(seen.tolist()) <= set(range(100))


def test_without_a_remainder_an_epoch_is_a_permutation() -> None:
    seen = np.concatenate([rows_of_step(step, 96, 32, seed=0) for step in range(3)])
    assert sorted(seen.tolist()) == list(range(96))


def test_other_images_are_dropped_in_other_epochs() -> None:
    seen = {int(row) for step in range(3 * 40) for row in rows_of_step(step, 100, 32, seed=0)}
    assert seen == set(range(100))


def test_a_step_is_a_function_of_seed_and_step() -> None:
    forwards = [rows_of_step(step, 100, 32, seed=0).tolist() for step in range(9)]
    backwards = [rows_of_step(step, 100, 32, seed=0).tolist() for step in reversed(range(9))]
    assert forwards == backwards[::-1]
    assert len({tuple(rows) for rows in forwards}) == 9
    assert rows_of_step(4, 100, 32, seed=1).tolist() != forwards[4]


@pytest.mark.parametrize("size", [16, 8, 4])
def test_the_order_does_not_depend_on_the_batch_size(size: int) -> None:
    whole = np.concatenate([rows_of_step(step, 96, 32, seed=3) for step in range(3)])
    parts = np.concatenate([rows_of_step(step, 96, size, seed=3) for step in range(96 // size)])
    assert (parts == whole).all()
