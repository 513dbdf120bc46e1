"""Measure `classifier`: accuracy of the classifier that was trained with the encoder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fgssl.errors import Problem, SettingsError
from fgssl.settings.declare import settings
from fgssl.settings.measure import Column, Measure, balanced_column, balanced_remarks, single_class

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features
    from fgssl.store.manifest import Manifest


@settings
class ClassifierAccuracy(Measure):
    """Accuracy of the classifier that `cross_entropy` trained."""

    def columns(self) -> list[Column]:
        """Return the columns `accuracy` and `accuracy_balanced`, in percent."""
        return [Column(name="accuracy", unit="percent"), balanced_column("accuracy")]

    def remarks(self, values: Mapping[str, float]) -> list[str]:
        """Return a remark if the balanced accuracy differs much."""
        return balanced_remarks("accuracy", values)

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return a message if the training images are of one class."""
        return single_class(manifest, "train", "evaluation.classifier", label_level)

    def value(self, features: "Features") -> dict[str, float]:
        """Return both columns; raise a `SettingsError` if the method trained no classifier."""
        import torch

        from fgssl.evaluation.accuracy import accuracies
        from fgssl.evaluation.classifier import predictions

        if features.classifier is None:
            message = "is true, but only cross_entropy trains a classifier (method.name): set it to false"
            raise SettingsError([Problem("config", "evaluation.classifier", message)])
        predicted = predictions(features.classifier, features.of_test, features.test_labels)
        truth = torch.tensor(features.test_labels, device=predicted.device)
        features.outcomes.classified("accuracy", predicted.cpu().numpy(), features.test_labels)
        return dict(zip(("accuracy", "accuracy_balanced"), accuracies(predicted == truth, truth), strict=True))
