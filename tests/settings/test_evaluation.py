"""Measures in the settings: their columns, order and units."""

import dataclasses
from typing import Any

import pytest

from fgssl.errors import SettingsError
from fgssl.evaluation.measures.collapse import Collapse
from fgssl.settings import config as configs
from fgssl.settings.evaluation import MEASURES, EvaluationSettings
from fgssl.settings.fingerprints import evaluation_fingerprint
from fgssl.settings.measure import Column

EVERYTHING = {
    "linear": {"label_fractions": [1.0, 0.2, 1.0, 0.125]},
    "knn": {},
    "outliers": {"levels": {"species": 0, "genus": 1}},
    "nuisances": {"light": ["brightness", "warmth"], "pose": ["scale"]},
    "collapse": True,
    "classifier": True,
    "retrieval_across": True,
    "hierarchy": {"levels": {"genus": 1, "species": 0}},
}


def evaluation(keys: dict[str, Any]) -> EvaluationSettings:
    method = {"name": "cross_entropy"}  # which trains the classifier
    found = configs.parse({"method": method, "evaluation": keys}, "test").evaluation
    assert found is not None
    return found


def names(keys: dict[str, Any]) -> list[str]:
    return [column.name for column in evaluation(keys).columns if column.shown]


def test_order() -> None:
    assert names(EVERYTHING) == [
        *("linear_100", "linear_20", "linear_12.5", "rank1", "rank5", "mAP"),
        *("rank1_across", "rank5_across", "mAP_across", "knn", "outliers_species"),
        *(
            "outliers_genus",
            "centroid_species",
            "centroid_genus",
            "consistency",
            "hierarchical_distance",
            "nuisance_light",
            "nuisance_pose",
            "feature_std",
            "effective_rank",
            "accuracy",
        ),
    ]
    assert list(evaluation(EVERYTHING).measures) == list(MEASURES)


def test_defaults_are_the_probe_and_retrieval() -> None:
    assert names({}) == ["linear_100", "linear_50", "linear_20", "rank1", "rank5", "mAP"]


def test_what_is_not_asked_for_is_left_out() -> None:
    assert names({"linear": None, "retrieval": False, "knn": {}}) == ["knn"]
    assert names({"linear": None, "retrieval": False, "classifier": True}) == ["accuracy"]
    off: dict[str, Any] = {"linear": None, "retrieval": False, "nuisances": {}, "knn": None, "collapse": False}
    with pytest.raises(
        SettingsError, match="no measure is given: set at least one of linear, retrieval, retrieval_across, knn"
    ):
        evaluation(off)


def test_a_part_that_may_be_null_is_switched_by_true_and_false() -> None:
    assert evaluation({"knn": True}) == evaluation({"knn": {}})
    assert evaluation({"linear": False, "knn": False}) == evaluation({"linear": None})
    assert evaluation({"collapse": {}, "retrieval": None}) == evaluation({"collapse": True, "retrieval": False})
    assert evaluation({"nuisances": False}) == evaluation({"nuisances": None}) == evaluation({})
    assert configs.parse({"evaluation": False}, "test").evaluation is None
    assert configs.parse({"evaluation": True, "decoder": True}, "test") == configs.parse({}, "test")
    assert configs.parse({"start": {"encoder": False}}, "test") == configs.parse({}, "test")


@pytest.mark.parametrize("key", ["training", "resources"])
@pytest.mark.parametrize("value", [True, False])
def test_a_number_that_may_be_null_is_not_switched(key: str, value: bool) -> None:
    number = {"training": "images_per_class", "resources": "micro_batch_size"}[key]
    with pytest.raises(SettingsError, match="is not allowed: give a number"):
        configs.parse({key: {number: value}}, "test")


@pytest.mark.parametrize(
    ("keys", "typed"),
    [
        ({"outliers": True}, "levels, e.g. {species: 0, genus: 1}"),
        ({"nuisances": True}, "{light: [brightness, warmth]}"),
    ],
)
def test_a_part_without_defaults_names_the_value_to_type(keys: dict[str, Any], typed: str) -> None:
    with pytest.raises(SettingsError) as caught:
        evaluation(keys)
    assert str(caught.value).endswith(typed)


def test_units() -> None:
    units = {column.name: column.unit for column in evaluation(EVERYTHING).columns if column.shown}
    assert {name for name in units if units[name] == "count"} == {"outliers_species", "outliers_genus"}
    assert {name for name in units if units[name] == "number"} == {
        *("feature_std", "effective_rank", "hierarchical_distance")
    }
    assert set(units.values()) == {"percent", "count", "number"}


def test_where_less_is_better() -> None:
    assert [column.name for column in evaluation(EVERYTHING).columns if column.lower_is_better] == [
        *("outliers_species", "outliers_genus", "hierarchical_distance", "mistake_severity"),
        *("nuisance_light", "nuisance_pose"),
    ]


def test_what_is_kept_of_the_features_is_no_other_result() -> None:
    config = configs.parse({}, "test")
    other = configs.parse({"evaluation": {"keep_features": None}}, "test")
    assert config.evaluation != other.evaluation
    assert evaluation_fingerprint(config) == evaluation_fingerprint(other) == "2e34fbf5af9a"


def test_values_of_the_keys_stay_as_they_are_written() -> None:
    """They are what fingerprints and plans hold."""
    kept = dataclasses.asdict(evaluation(EVERYTHING))
    assert (kept["retrieval"], kept["collapse"]) == (True, True)
    assert kept["nuisances"] == {"light": ("brightness", "warmth"), "pose": ("scale",)}
    assert kept["knn"] == {"neighbors": 20, "temperature": 0.07}
    assert kept["outliers"] == {"levels": {"species": 0, "genus": 1}, "centroids": "train"}


def test_two_measures_with_one_column_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collapse, "columns", lambda self: [Column(name="accuracy", unit="number")])
    with pytest.raises(SettingsError, match="collapse and classifier both have the column 'accuracy': rename one"):
        evaluation({"collapse": True, "classifier": True})


def test_shown_columns_join_those_of_the_table() -> None:
    keys = {"linear": {"label_fractions": [0.01]}, "retrieval": False, "knn": {}}
    assert names(keys) == ["linear_1", "knn"]
    every = [column.name for column in evaluation(keys).columns]
    assert every == ["linear_1", "linear_1_balanced", "learning_rate_1", "label_percent_1", "knn", "knn_balanced"]
    wanted = {**keys, "shown_columns": ["knn_balanced", "learning_rate_1"]}
    assert names(wanted) == ["linear_1", "learning_rate_1", "knn", "knn_balanced"]
    assert evaluation_fingerprint(configs.parse({"evaluation": keys}, "test")) == evaluation_fingerprint(
        configs.parse({"evaluation": wanted}, "test")
    )
    with pytest.raises(SettingsError, match="shown_columns: no measure has the column knn_5: choose among linear_1,"):
        evaluation({**keys, "shown_columns": ["knn_5"]})


def test_remarks() -> None:
    settings = evaluation({"linear": {"label_fractions": [1.0, 0.01], "learning_rates": [0.3, 1.0, 3.0]}, "knn": {}})
    values = {"linear_100": 80.0, "linear_100_balanced": 74.0, "learning_rate_100": 1.0, "label_percent_100": 100.0}
    values |= {"linear_1": 40.0, "linear_1_balanced": 41.0, "learning_rate_1": 3.0, "label_percent_1": 20.0}
    assert settings.remarks(values | {"knn": 60.0, "knn_balanced": 64.9}) == [
        "linear_100: 80.00 percent of the test images, but 74.00 percent if every class counts alike "
        "(linear_100_balanced, which evaluation.shown_columns puts into tables)",
        "linear_1: the learning rate 3 was chosen, the largest of evaluation.linear.learning_rates: larger ones may be "
        "better",
        "linear_1: 20.00 percent of the labels are used, since the number of images of each class is rounded, and at "
        "least one",
    ]
    rounded = evaluation({"linear": {"label_fractions": [0.2]}})
    assert len(rounded.remarks({"label_percent_20": 14.3})) == len(rounded.remarks({"label_percent_20": 25.0})) == 1
    assert rounded.remarks({"label_percent_20": 21.9}) == rounded.remarks({"label_percent_20": 18.1}) == []
    assert settings.remarks({"linear_100": 80.0, "learning_rate_100": 0.3}) == [
        "linear_100: the learning rate 0.3 was chosen, the smallest of evaluation.linear.learning_rates: smaller ones "
        "may be better"
    ]
    one_rate = evaluation({"linear": {"learning_rates": [1.0]}, "knn": {}, "classifier": True})
    assert one_rate.remarks({"learning_rate_100": 1.0}) == []
    assert [
        text.split(":")[0]
        for text in one_rate.remarks({"knn": 60.0, "knn_balanced": 65.0, "accuracy": 60.0, "accuracy_balanced": 50.0})
    ] == ["knn", "accuracy"]


def test_shares_of_labels_that_would_share_a_column_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"0\.12345678 and 0\.12345679 would share the column linear_12\.3457"):
        evaluation({"linear": {"label_fractions": [0.12345678, 0.12345679]}})
