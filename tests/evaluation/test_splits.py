"""Label subsets, and the held-out part of the training labels."""

import numpy as np
import pytest

from fgssl.evaluation.splits import grouped_split, stratified_subset


def test_subset_takes_its_share_of_every_class_and_at_least_one() -> None:
    labels = np.repeat([0, 1, 2, 3], [10, 5, 2, 1])
    rows = stratified_subset(labels, 0.5, seed=0)
    assert np.bincount(labels[rows]).tolist() == [5, 3, 1, 1]  # 2.5 is rounded half up, 0.5 too
    assert np.bincount(labels[stratified_subset(labels, 0.1, seed=0)]).tolist() == [1, 1, 1, 1]
    assert stratified_subset(labels, 1.0, seed=0).tolist() == list(range(18))


def test_subset_is_ascending_nested_and_a_function_of_the_seed() -> None:
    labels = np.tile(np.arange(7), 30)
    small, large = stratified_subset(labels, 0.2, seed=1), stratified_subset(labels, 0.5, seed=1)
    assert (np.diff(small) > 0).all()
    assert set(small) < set(large)
    assert small.tolist() == stratified_subset(labels, 0.2, seed=1).tolist()
    assert small.tolist() != stratified_subset(labels, 0.2, seed=2).tolist()


def test_subset_draws_every_row_alike() -> None:
    labels = np.zeros(20, dtype=np.int64)
    drawn = np.zeros(20)
    for seed in range(2000):
        drawn[stratified_subset(labels, 0.25, seed)] += 1
    assert abs(drawn - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)  # five standard deviations


@pytest.mark.parametrize("seed", range(5))
def test_no_group_straddles_the_split(seed: int) -> None:
    random = np.random.default_rng(seed)
    track_class = random.integers(0, 6, size=120)
    groups = random.integers(0, 120, size=1500)
    labels = track_class[groups]
    fitted, validated = grouped_split(labels, groups, 0.2, seed)
    assert not set(groups[fitted]) & set(groups[validated])
    assert sorted([*fitted, *validated]) == list(range(1500))
    share = np.bincount(labels[validated], minlength=6) / np.bincount(labels, minlength=6)
    assert ((share > 0.1) & (share < 0.3)).all()


def test_images_that_are_their_own_group_are_split_exactly() -> None:
    labels = np.repeat([0, 1], [40, 10])
    _, validated = grouped_split(labels, np.arange(50), 0.2, seed=0)
    assert np.bincount(labels[validated]).tolist() == [8, 2]


def test_each_side_keeps_a_group_of_a_class_that_has_two() -> None:
    labels, groups = np.repeat([0, 1], [10, 3]), np.array([5] * 9 + [6] + [7] * 3)
    fitted, validated = grouped_split(labels, groups, 0.01, seed=0)
    assert groups[validated].tolist() == [6]  # the smallest group of class 0; class 1 has but one
    fitted, validated = grouped_split(labels, groups, 0.99, seed=0)
    assert set(labels[fitted]) == {0, 1}
    assert set(labels[validated]) == {0}


def test_nothing_to_hold_out_gives_no_rows() -> None:
    fitted, validated = grouped_split(np.array([0, 0, 1]), np.array([3, 3, 4]), 0.5, seed=0)
    assert fitted.tolist() == [0, 1, 2]
    assert validated.tolist() == []
