"""Hierarchical measures against walks up a tree, and as a measure of a run."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fgssl.data.shards import ShardedSplit
from fgssl.errors import DataError, SettingsError
from fgssl.evaluation.hierarchy import (
    Classes,
    consistency,
    hierarchical_distance,
    mistake_severity,
    paths,
    several_parents,
)
from fgssl.evaluation.measures.hierarchy import Hierarchy
from fgssl.run.execution import execute
from fgssl.settings.config import Config
from fgssl.store.features import read_features

Make = Callable[..., Config]
SIZES = (24, 9, 4, 2)
"""Number of classes at each level of a random tree."""


def tree(seed: int, images: int) -> tuple[list[list[int]], Classes]:
    """Return the parent of each class at each level but the last, and the labels of random images in all species."""
    random = np.random.default_rng(seed)
    parents = [random.integers(0, above, below).tolist() for below, above in itertools.pairwise(SIZES)]
    species = random.permutation(np.arange(images) % SIZES[0])
    return parents, np.array([ancestors(one, parents) for one in species.tolist()])


def ancestors(species: int, parents: list[list[int]]) -> list[int]:
    path = [species]
    for of_level in parents:
        path.append(of_level[path[-1]])
    return path


def height(one: int, other: int, parents: list[list[int]]) -> int:
    """Walk up from both species until they meet; the root lies above the last level."""
    steps = 0
    for steps, (a, b) in enumerate(zip(ancestors(one, parents), ancestors(other, parents), strict=True)):
        if a == b:
            return steps
    return steps + 1


@pytest.mark.parametrize("seed", range(4))
def test_equals_walks_up_the_tree(seed: int) -> None:
    parents, labels = tree(seed, images=60)
    _, truth = tree(seed, images=50)
    random = np.random.default_rng(seed + 10)
    predicted = np.stack([random.integers(0, size, 50) for size in SIZES], axis=1)
    predicted[:20] = truth[:20]
    predicted[20:30] = paths(predicted[20:30, 0], labels)  # wrong, but consistent
    heights = [height(int(one), int(own), parents) for one, own in zip(predicted[:, 0], truth[:, 0], strict=True)]
    mistakes = [one for one in heights if one]
    assert mistake_severity(predicted[:, 0], truth, labels) == pytest.approx(sum(mistakes) / len(mistakes))
    assert hierarchical_distance(predicted[:, 0], truth, labels) == pytest.approx(sum(heights) / 50)
    agreeing = [ancestors(row[0], parents) == row for row in predicted.tolist()]
    assert consistency(predicted, labels) == pytest.approx(100 * sum(agreeing) / 50)
    assert 30 <= sum(agreeing) < 50
    assert not several_parents(labels)


def test_severity_without_mistakes_and_of_the_worst() -> None:
    labels = np.array([[0, 0], [1, 0], [2, 1]])
    assert math.isnan(mistake_severity(np.array([0, 1, 2]), labels, labels))
    assert hierarchical_distance(np.array([0, 1, 2]), labels, labels) == 0
    assert mistake_severity(np.array([1, 0, 2]), labels, labels) == 1  # within the genus
    assert mistake_severity(np.array([2, 2, 0]), labels, labels) == 2  # another genus


def test_mild_mistakes_beside_the_severe_ones_are_no_improvement() -> None:
    labels = np.array([[0, 0], [1, 0], [2, 1], [3, 1]])
    truth = np.tile(labels[0], (100, 1))
    severe, worse = np.zeros(100, dtype=np.int64), np.ones(100, dtype=np.int64)
    severe[:10] = worse[:10] = 2
    assert hierarchical_distance(severe, truth, labels) == pytest.approx(0.2)
    assert hierarchical_distance(worse, truth, labels) == pytest.approx(1.1)
    assert mistake_severity(severe, truth, labels) > mistake_severity(worse, truth, labels)


def test_an_undefined_severity_is_explained() -> None:
    measure = Hierarchy(levels={"species": 0, "genus": 1})
    assert measure.remarks({"mistake_severity": math.nan}) == [
        "mistake_severity: undefined, since the nearest class centroid gives every test image its true species"
    ]
    assert measure.remarks({"mistake_severity": 1.5}) == measure.remarks({}) == []


def test_a_test_species_without_training_images_is_a_mistake() -> None:
    labels, truth = np.array([[0, 0], [2, 1]]), np.array([[1, 0], [2, 1]])
    assert mistake_severity(np.array([0, 2]), truth, labels) == 1  # its genus is found


def test_labels_that_are_no_tree_are_refused() -> None:
    labels = np.array([[0, 0], [0, 1], [1, 1]])
    assert {level: classes.tolist() for level, classes in several_parents(labels).items()} == {0: [0]}
    split = SimpleNamespace(labels=labels)
    measure: Any = Hierarchy(levels={"species": 0, "genus": 1})
    with pytest.raises(
        DataError, match=r"hierarchy\.levels: 1 of the classes at species lie in several at genus, such"
    ):
        measure.check(SimpleNamespace(train=split, test=split))


def test_levels_are_two_or_more(tiny_config: Make) -> None:
    with pytest.raises(SettingsError, match=r"evaluation\.hierarchy\.levels: .* at least 2 items"):
        tiny_config("evaluation={hierarchy: {levels: {species: 0}}}")
    with pytest.raises(SettingsError, match=r"evaluation\.hierarchy: levels .* name one level twice"):
        tiny_config("evaluation={hierarchy: {levels: {species: 0, genus: 0}}}")


def test_a_run_is_measured(tiny_config: Make, tmp_path: Path) -> None:
    levels = "levels: {genus: 1, species: 0}"
    measures = f"linear: null, retrieval: false, hierarchy: {{{levels}}}, outliers: {{{levels}}}"
    config = tiny_config("method={name: start_encoder}", f"evaluation={{{measures}, keep_features: float32}}")
    folder = execute(config, tmp_path)
    record, kept = folder.evaluation(config), read_features(folder.features)
    assert record is not None
    assert kept is not None
    (shards,) = tmp_path.glob("data/toy-*")
    train, test = (ShardedSplit(shards, split).labels for split in ("train", "test"))
    unit = {name: part / np.linalg.norm(part, axis=1, keepdims=True) for name, part in kept.splits.items()}
    predicted = []
    for level in (0, 1):
        classes = np.unique(train[:, level])
        centroids = np.stack([unit["train"][train[:, level] == one].mean(axis=0) for one in classes])
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
        predicted.append(classes[(unit["test"] @ centroids.T).argmax(axis=1)])
    genus_of = {int(species): int(genus) for species, genus in train}
    heights = [
        0 if found == own else 1 if genus_of[int(found)] == genus else 2
        for found, (own, genus) in zip(predicted[0], test, strict=True)
    ]
    assert {name: value for name, value in record.measures.items() if "outliers" not in name} == pytest.approx(
        {
            "centroid_species": 100 * (predicted[0] == test[:, 0]).mean(),
            "centroid_genus": 100 * (predicted[1] == test[:, 1]).mean(),
            "consistency": 100 * np.mean([genus_of[int(a)] == b for a, b in zip(*predicted, strict=True)]),
            "hierarchical_distance": np.mean(heights),
            "mistake_severity": np.mean([one for one in heights if one]),
        }
    )
    outlying = 100 * record.measures["outliers_species"] / len(test)
    assert record.measures["centroid_species"] == pytest.approx(100 - outlying)
    outcomes = folder.outcomes(config)
    assert outcomes is not None
    found = outcomes.of("centroid_genus")
    assert found is not None
    assert 100 * found.mean() == pytest.approx(record.measures["centroid_genus"])
