"""Tables of single test images: errors over images and groups, McNemar's test, classes, and flipped images."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fgssl.report.images import MetricOutcomes, class_table, flipped_table, image_table
from fgssl.report.statistics import mcnemar
from fgssl.store.manifest import Level

LABELS = np.array([[0, 0], [0, 0], [1, 0], [1, 0], [2, 1], [2, 1]])
NAN = float("nan")


def shards(groups: list[int] | None = None) -> Any:
    return SimpleNamespace(
        labels=LABELS,
        levels=[Level(name="species", classes=("a", "b", "c")), Level(name="genus", classes=("A", "C"))],
        groups=np.arange(6) if groups is None else np.array(groups),
        source_ids=[f"{row}.jpg" for row in range(6)],
    )


def outcomes(images: Any, **cells: Any) -> MetricOutcomes:
    by_seed = {cell: {seed: np.array(values) for seed, values in enumerate(seeds)} for cell, seeds in cells.items()}
    return MetricOutcomes("linear_100", False, "base", by_seed, images)


def test_means_differences_and_mcnemar() -> None:
    found = outcomes(shards(), base=[[1, 0, 0, 1, 0, 0]], other=[[1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
    base, other = image_table(found).to_dict("records")
    assert (base["mean"], base["seeds"], base["images"]) == (pytest.approx(100 / 3), 1, 6)
    assert base["error"] == pytest.approx(100 * np.std([1, 0, 0, 1, 0, 0], ddof=1) / np.sqrt(6))
    assert np.isnan(base["gained"])
    assert other["mean"] == pytest.approx(100 * 5 / 12)
    assert (other["gained"], other["lost"]) == (4, 1)  # the second seed has no pair
    assert other["delta_baseline"] == pytest.approx(50)
    assert other["p_mcnemar"] == pytest.approx(2 * (1 + 5) / 32)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(8, 0) == pytest.approx(2 / 2**8)


def test_outliers_are_a_share_of_images_that_falls() -> None:
    right = {"base": {0: np.array([1.0, 0, 0, 1, 0, 0])}, "other": {0: np.array([1.0, 1, 1, 1, 0, 1])}}
    found = MetricOutcomes("outliers_genus", True, "base", right, shards())
    base, other = image_table(found).to_dict("records")
    assert (base["mean"], other["mean"]) == pytest.approx((100 * 4 / 6, 100 / 6))
    assert other["delta_baseline"] == pytest.approx(-50)
    assert (other["gained"], other["lost"]) == (3, 0)
    (of_genus,) = class_table(found).query("cell == 'other' and `class` == 'A'").to_dict("records")
    assert (of_genus["mean"], of_genus["baseline"], of_genus["delta_baseline"]) == pytest.approx((0, 50, -50))


def test_a_track_counts_once_in_mcnemars_test() -> None:
    base, other = [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0]
    alone = image_table(outcomes(shards(), base=[base], other=[other])).to_dict("records")[1]
    tracks = image_table(outcomes(shards([7, 7, 7, 7, 8, 9]), base=[base], other=[other])).to_dict("records")[1]
    assert alone["p_mcnemar"] == pytest.approx(2 * (1 + 5) / 32)  # 4 gained, 1 lost
    assert tracks["p_mcnemar"] == 1.0  # 1 gained, 1 lost
    assert (tracks["gained"], tracks["lost"]) == (4, 1)


def test_images_of_a_group_count_as_one_observation() -> None:
    values = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    alone = image_table(outcomes(shards(), base=[values])).to_dict("records")[0]["error"]
    tracks = image_table(outcomes(shards([7, 7, 8, 8, 9, 9]), base=[values])).to_dict("records")[0]["error"]
    assert tracks == pytest.approx(100 * np.std([1, 0, 1], ddof=1) / np.sqrt(3))
    assert tracks > 1.5 * alone
    one = image_table(outcomes(shards([1] * 6), base=[values])).to_dict("records")[0]
    assert np.isnan(one["error"])


def test_images_that_do_not_count_and_metrics_that_are_no_share() -> None:
    found = image_table(outcomes(None, base=[[0.5, NAN, 0.2]], other=[[0.7, NAN, 0.1]])).to_dict("records")
    assert [entry["images"] for entry in found] == [2, 2]
    assert found[1]["delta_baseline"] == pytest.approx(5)
    assert np.isnan(found[1]["p_mcnemar"])


def test_classes_of_each_level() -> None:
    table = class_table(outcomes(shards(), base=[[1, 0, 0, 1, 0, 0]], other=[[1, 1, 1, 0, 1, NAN]]))
    of_other = table[table["cell"] == "other"].set_index(["level", "class"])
    assert of_other.loc[("species", "a"), "mean"] == 100
    assert of_other.loc[("species", "c"), "mean"] == 100  # the image that does not count is left out
    assert of_other.loc[("genus", "A"), "delta_baseline"] == pytest.approx(25)
    assert of_other.loc[("genus", "A"), "images"] == 4
    assert class_table(outcomes(None, base=[[1, 0, 0, 1, 0, 0]])).empty


def test_flipped_images_need_a_majority_of_seeds() -> None:
    base = [[1, 0, 0, 1, 0, 1], [1, 0, 1, 1, 0, 0], [1, 0, 1, 1, 0, 1]]
    other = [[1, 1, 0, 0, 0, 1], [1, 1, 1, 0, 1, 0], [1, 0, 1, 0, 0, 1]]
    table = flipped_table(outcomes(shards(), base=base, other=other))
    assert table.to_dict("records") == [
        {"cell": "other", "image": "1.jpg", "class": "a", "right": 2, "right_baseline": 0, "seeds": 3},
        {"cell": "other", "image": "3.jpg", "class": "b", "right": 0, "right_baseline": 3, "seeds": 3},
    ]
    assert flipped_table(outcomes(None, base=base, other=other)).empty
