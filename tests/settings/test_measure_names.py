"""Names of the measures: their order, what their values are."""

import pytest

from fgssl.settings.evaluation import EvaluationSettings, KNNSettings, LinearProbeSettings, OutlierSettings
from fgssl.settings.measure_names import kind, lower_is_better, measure_names

EVERYTHING = EvaluationSettings(
    linear=LinearProbeSettings(label_fractions=(1.0, 0.2, 1.0, 0.125)),
    knn=KNNSettings(),
    outliers=OutlierSettings(levels={"species": 0, "genus": 1}),
    nuisances={"light": ("brightness", "warmth"), "pose": ("scale",)},
    collapse=True,
    classifier=True,
)


def test_order() -> None:
    assert measure_names(EVERYTHING) == (
        *("linear_100", "linear_20", "linear_12.5", "rank1", "rank5", "mAP", "knn", "outliers_species"),
        *("outliers_genus", "nuisance_light", "nuisance_pose", "feature_std", "effective_rank", "accuracy"),
    )


def test_defaults_are_the_probe_and_retrieval() -> None:
    assert measure_names(EvaluationSettings()) == ("linear_100", "linear_50", "linear_20", "rank1", "rank5", "mAP")


def test_what_is_not_asked_for_is_left_out() -> None:
    assert measure_names(EvaluationSettings(linear=None, retrieval=False, knn=KNNSettings())) == ("knn",)
    assert measure_names(EvaluationSettings(linear=None, retrieval=False, classifier=True)) == ("accuracy",)
    with pytest.raises(ValueError, match="no measure is asked for"):
        EvaluationSettings(linear=None, retrieval=False)


def test_kinds() -> None:
    kinds = {name: kind(name) for name in measure_names(EVERYTHING)}
    assert {name for name in kinds if kinds[name] == "count"} == {"outliers_species", "outliers_genus"}
    assert {name for name in kinds if kinds[name] == "number"} == {"feature_std", "effective_rank"}
    assert set(kinds.values()) == {"percent", "count", "number"}
    with pytest.raises(ValueError, match="'wall_s' is not the name of a measure"):
        kind("wall_s")


def test_where_less_is_better() -> None:
    assert [name for name in measure_names(EVERYTHING) if lower_is_better(name)] == [
        *("outliers_species", "outliers_genus", "nuisance_light", "nuisance_pose"),
    ]
