"""Measure `outliers`: test images that lie nearer to another class than to their own."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fgssl.settings.declare import LabelLevel, settings
from fgssl.settings.measure import Column, Measure, single_class

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features
    from fgssl.store.manifest import Manifest


@settings
class Outliers(Measure):
    """Count of test images whose nearest class centroid is another class's, per level of the labels (*HCL*)."""

    levels: Annotated[dict[str, LabelLevel], Field(min_length=1, examples=["{species: 0, genus: 1}"])]
    """Levels of the labels by a name for the table, e.g. {species: 0, genus: 1}."""
    centroids: Literal["train", "test"] = "train"
    """Split whose features are averaged into the centroids."""

    def columns(self) -> list[Column]:
        """Return the columns `outliers_<name>`, each a count; lower is better."""
        note = "number of test images whose nearest class centroid is not their own class's"
        return [Column(name=f"outliers_{name}", unit="count", lower_is_better=True, note=note) for name in self.levels]

    def label_levels(self, label_level: int) -> dict[str, int]:
        """Return the level of each column by the key that chooses it."""
        return {f"evaluation.outliers.levels.{name}": level for name, level in self.levels.items()}

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return a message for each level at which there is one centroid only."""
        return [
            message
            for name, level in self.levels.items()
            for message in single_class(manifest, self.centroids, f"evaluation.outliers.levels.{name}", level)
        ]

    def value(self, features: "Features") -> dict[str, float]:
        """Return the number of outliers at each level, as `outliers` counts them."""
        from fgssl.evaluation.centroids import nearest_classes

        if self.centroids == "train":
            known, labels = features.of_train, features.train.labels
        else:
            known, labels = features.of_test, features.test.labels
        found: dict[str, float] = {}
        for name, level in self.levels.items():
            truth = features.test.labels[:, level]
            nearest = nearest_classes(known, labels[:, level], features.of_test, truth).cpu().numpy()
            features.outcomes.classified(f"outliers_{name}", nearest, truth)
            found[f"outliers_{name}"] = int((nearest != truth).sum())
        return found
