"""Names of the measures an evaluation yields, in the order of a table's columns."""

from typing import Literal, TypeAlias

from fgssl.settings.evaluation import EvaluationSettings

Kind: TypeAlias = Literal["percent", "count", "number"]

RETRIEVAL_MEASURES = ("rank1", "rank5", "mAP")
COLLAPSE_MEASURES = ("feature_std", "effective_rank")


def percent_name(fraction: float) -> str:
    """`20` for 0.2: the end of `linear_20` and `learning_rate_20`."""
    return f"{100 * fraction:g}"


def measure_names(settings: EvaluationSettings) -> tuple[str, ...]:
    """Those that are asked for: linear probe, retrieval, kNN, outliers, nuisances, collapse, trained classifier."""
    names: list[str] = []
    if settings.linear:
        names += dict.fromkeys(f"linear_{percent_name(fraction)}" for fraction in settings.linear.label_fractions)
    if settings.retrieval:
        names += RETRIEVAL_MEASURES
    if settings.knn:
        names.append("knn")
    if settings.outliers:
        names += [f"outliers_{name}" for name in settings.outliers.levels]
    names += [f"nuisance_{name}" for name in settings.nuisances]
    if settings.collapse:
        names += COLLAPSE_MEASURES
    if settings.classifier:
        names.append("accuracy")
    return tuple(names)


def kind(measure: str) -> Kind:
    """What its values are: percent, a count of test images, or a plain number. `ValueError` for no measure's name."""
    if measure in (*RETRIEVAL_MEASURES, "knn", "accuracy") or measure.startswith(("linear_", "nuisance_")):
        return "percent"
    if measure.startswith("outliers_"):
        return "count"
    if measure in COLLAPSE_MEASURES:
        return "number"
    raise ValueError(f"{measure!r} is not the name of a measure")


def lower_is_better(measure: str) -> bool:
    """Of outliers and of nuisances; of all others more is better."""
    return measure.startswith(("outliers_", "nuisance_"))
