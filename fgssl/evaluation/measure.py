"""A frozen encoder -> its measures, those that the settings ask for."""

from fgssl.evaluation.features import Features, Splits
from fgssl.settings.evaluation import EvaluationSettings


def check(settings: EvaluationSettings, splits: Splits) -> None:
    """Raise the `DataError` of images that cannot be measured, before the training rather than after it."""
    for measure in settings.measures.values():
        measure.check(splits)


def measure(settings: EvaluationSettings, features: Features) -> dict[str, float]:
    """Return the value of each column in the order of `settings.columns`, and the names beside them.

    The images have passed `check`; a measure raises what it documents.
    """
    values: dict[str, float] = {}
    for each in settings.measures.values():
        values |= each.value(features)
    return values
