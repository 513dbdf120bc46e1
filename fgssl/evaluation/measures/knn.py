"""Measure `knn`: accuracy of a weighted vote of the nearest training images."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fgssl.settings.declare import FiniteFloat, PositiveInt, settings
from fgssl.settings.measure import Column, Measure, balanced_column, balanced_remarks, single_class

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features
    from fgssl.store.manifest import Manifest


@settings
class KNN(Measure):
    """Weighted vote of the nearest training images (Wu et al. 2018, arXiv:1805.01978)."""

    neighbors: PositiveInt = 20
    """Number K of training images that vote, at most all of them."""
    temperature: Annotated[FiniteFloat, Field(ge=1e-30)] = 0.07
    """Divisor of the cosines, whose exponential weighs a vote, at least 1e-30; Wu et al. use 0.07."""

    def columns(self) -> list[Column]:
        """Return the columns `knn` and `knn_balanced`, in percent."""
        return [Column(name="knn", unit="percent"), balanced_column("knn")]

    def remarks(self, values: Mapping[str, float]) -> list[str]:
        """Return a remark if the balanced accuracy differs much."""
        return balanced_remarks("knn", values)

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return a message if the training images are of one class, or fewer than `neighbors`."""
        faults, images = single_class(manifest, "train", "evaluation.knn", label_level), manifest.count("train")
        if self.neighbors <= images:
            return faults
        return [
            *faults,
            f"evaluation.knn.neighbors: {self.neighbors} exceeds the {images} training images of {manifest.title}: "
            f"take {images} at most",
        ]

    def value(self, features: "Features") -> dict[str, float]:
        """Return `knn`, the accuracy of `weighted_knn`, and its balanced accuracy."""
        from fgssl.evaluation.accuracy import accuracies
        from fgssl.evaluation.knn import weighted_knn_classes

        train, test = (features.of_train, features.train_labels), (features.of_test, features.test_labels)
        predicted, labels = weighted_knn_classes(*train, *test, self.neighbors, self.temperature, features.track)
        features.outcomes.classified("knn", predicted.cpu().numpy(), labels.cpu().numpy())
        return dict(zip(("knn", "knn_balanced"), accuracies(predicted == labels, labels), strict=True))
