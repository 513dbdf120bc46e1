"""Test images that lie nearer to another class than to their own."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fgssl.settings.declare import NonNegativeInt, settings
from fgssl.settings.measure import Column, Measure

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features


@settings
class Outliers(Measure):
    """Test images whose nearest class centroid is another class's, counted for each named level."""

    levels: Annotated[dict[str, NonNegativeInt], Field(min_length=1)]
    """Name in the table -> level of the labels, e.g. {species: 0, genus: 1}."""
    centroids: Literal["train", "test"] = "train"
    """The split whose features the centroids are means of."""

    def columns(self) -> list[Column]:
        note = "number of test images whose nearest class centroid is not their class's"
        return [Column(name=f"outliers_{name}", unit="count", lower_is_better=True, note=note) for name in self.levels]

    def label_levels(self, label_level: int) -> dict[str, int]:
        return {f"evaluation.outliers.levels.{name}": level for name, level in self.levels.items()}

    def value(self, features: "Features") -> dict[str, float]:
        from fgssl.evaluation.centroids import outliers

        if self.centroids == "train":
            known, labels = features.of_train, features.train.labels
        else:
            known, labels = features.of_test, features.test.labels
        truth = features.test.labels
        return {
            f"outliers_{name}": outliers(known, labels[:, level], features.of_test, truth[:, level])
            for name, level in self.levels.items()
        }
