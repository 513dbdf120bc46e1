"""Names of the measures an evaluation yields, in the order of a table's columns."""

from fgssl.evaluation.settings import EvaluationSettings

RETRIEVAL_MEASURES = ("rank1", "rank5", "mAP")


def percent_name(fraction: float) -> str:
    """`20` for 0.2: the end of `linear_20` and `learning_rate_20`."""
    return f"{100 * fraction:g}"


def measure_names(settings: EvaluationSettings) -> tuple[str, ...]:
    """`linear_<percent>` for each label fraction, then the retrieval measures; all in percent."""
    linear = [f"linear_{percent_name(fraction)}" for fraction in settings.linear.label_fractions]
    return (*dict.fromkeys(linear), *RETRIEVAL_MEASURES)
