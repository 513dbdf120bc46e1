"""Measures of a frozen encoder, as the settings request them."""

from fgssl.evaluation.features import Features, Splits
from fgssl.settings.evaluation import EvaluationSettings


def check(settings: EvaluationSettings, splits: Splits) -> None:
    """Raise a `DataError` if the images cannot be measured; called before training rather than after it."""
    for measure in settings.measures.values():
        measure.check(splits)


def measure(settings: EvaluationSettings, features: Features) -> dict[str, float]:
    """Return the value of every column, in the order of `settings.columns`, and further values that no table shows.

    The images must have passed `check`. Each measure documents the errors that it raises.
    """
    values: dict[str, float] = {}
    for each in settings.measures.values():
        values |= each.value(features)
    return values
