"""Images of a step: a permutation per epoch, whole batches, and a function of seed and step."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fgssl.data.sampling import balanced_rows_of_step, rows_by_class, rows_of_step, steps_per_epoch


def test_the_last_partial_batch_is_dropped() -> None:
    assert [steps_per_epoch(size, 32) for size in (31, 32, 63, 64, 100)] == [0, 1, 1, 2, 3]


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


def balanced(step: int, labels: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    return balanced_rows_of_step(step, rows_by_class(labels), images_per_class=4, global_batch_size=32, seed=seed)


def test_a_balanced_batch_holds_as_many_images_of_each_of_its_classes() -> None:
    labels = np.random.default_rng(0).integers(0, 12, 300)
    seen, classes = set(), set()
    for step in range(60):
        rows = balanced(step, labels)
        assert len(set(rows)) == 32
        found, counts = np.unique(labels[rows], return_counts=True)
        assert len(found) == 8
        assert (counts == 4).all()
        seen |= set(rows.tolist())
        classes |= set(found.tolist())
    assert classes == set(range(12))
    assert len(seen) > 290  # none is left out for good


def test_a_balanced_batch_is_a_function_of_seed_and_step_in_random_order() -> None:
    labels = np.repeat(np.arange(12), 25)
    assert (balanced(3, labels) == balanced(3, labels)).all()
    assert (balanced(3, labels) != balanced(4, labels)).any()
    assert (balanced(3, labels) != balanced(3, labels, seed=1)).any()
    groups = labels[balanced(3, labels)].reshape(4, 8)  # neighbors, as BatchNorm groups them
    assert all(len(set(group)) > 3 for group in groups)


def test_rows_by_class() -> None:
    found = rows_by_class(np.array([2, 0, 2, 5, 0, 2]))
    assert [rows.tolist() for rows in found] == [[1, 4], [0, 2, 5], [3]]
