"""Measure `classifier`: accuracy of the classifier that was trained with the encoder."""

from typing import TYPE_CHECKING

from fgssl.errors import Problem, SettingsError
from fgssl.settings.declare import settings
from fgssl.settings.measure import Column, Measure

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features


@settings
class ClassifierAccuracy(Measure):
    """Accuracy of the classifier that `cross_entropy` trained."""

    def columns(self) -> list[Column]:
        """Return the column `accuracy`, in percent."""
        return [Column(name="accuracy", unit="percent")]

    def value(self, features: "Features") -> dict[str, float]:
        """Return `accuracy`; raise a `SettingsError` if the method trained no classifier."""
        from fgssl.evaluation.classifier import accuracy

        if features.classifier is None:
            message = "is true, but only cross_entropy trains a classifier (method.name): set it to false"
            raise SettingsError([Problem("config", "evaluation.classifier", message)])
        return accuracy(features.classifier, features.of_test, features.test_labels)
