"""Measure `hierarchy`: predictions at several levels of the labels, and how bad mistakes are."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fgssl.settings.declare import LabelLevel, settings
from fgssl.settings.measure import Column, Measure, single_class

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

    from fgssl.evaluation.features import Features, Splits
    from fgssl.store.manifest import Manifest


@settings
class Hierarchy(Measure):
    """Accuracy at each level of the labels, agreement of the predictions, and height of the mistakes.

    The prediction at each level is the class of the nearest centroid of training features, as in `outliers`. It needs
    no further training and no setting, so that all levels are judged alike; the classifiers of `knn` and `linear` are
    made for one level, and the learning rate of `linear` is chosen for it.
    """

    levels: Annotated[dict[str, LabelLevel], Field(min_length=2, examples=["{species: 0, genus: 1}"])]
    """Two levels of the labels or more, by a name for the table, e.g. {species: 0, genus: 1}. Each class must lie in
    one class of the next level. The height of a mistake counts these levels."""

    def __post_init__(self) -> None:
        if len({*self.levels.values()}) < len(self.levels):
            raise ValueError(f"levels {self.levels} name one level twice: give each level one name")

    @property
    def ordered(self) -> dict[str, int]:
        """The levels, finest first."""
        return dict(sorted(self.levels.items(), key=lambda item: item[1]))

    def columns(self) -> list[Column]:
        """Return `centroid_<name>`, `consistency`, `hierarchical_distance`, and `mistake_severity`, which is not shown.

        Severity is hidden, since an encoder that makes further mild mistakes looks better by it.
        """
        accuracy = "percent of the test images whose nearest class centroid is their own class's"
        one_path = f"percent of the test images whose predicted {' and '.join(self.ordered)} belong together"
        finest = next(iter(self.ordered))
        height = f"mean height of the lowest common ancestor of predicted and true {finest}"
        among = (
            f"{height} among mistakes; further mild mistakes lower it, so compare it at equal centroid_{finest} only"
        )
        return [
            *(Column(name=f"centroid_{name}", unit="percent", note=accuracy) for name in self.ordered),
            Column(name="consistency", unit="percent", note=one_path),
            Column(
                name="hierarchical_distance", unit="number", note=f"{height}, 0 if they are equal", lower_is_better=True
            ),
            Column(name="mistake_severity", unit="number", note=among, lower_is_better=True, shown=False),
        ]

    def remarks(self, values: Mapping[str, float]) -> list[str]:
        """Return a remark if the severity is nan."""
        if not math.isnan(values.get("mistake_severity", 0.0)):
            return []
        finest = next(iter(self.ordered))
        return [
            f"mistake_severity: undefined, since the nearest class centroid gives every test image its true {finest}"
        ]

    def label_levels(self, label_level: int) -> dict[str, int]:
        """Return each level by the key that chooses it."""
        return {f"evaluation.hierarchy.levels.{name}": level for name, level in self.levels.items()}

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return a message for each level at which there is one centroid only."""
        return [
            message
            for name, level in self.levels.items()
            for message in single_class(manifest, "train", f"evaluation.hierarchy.levels.{name}", level)
        ]

    def check(self, splits: "Splits") -> None:
        """Raise a `DataError` if a class lies in several classes of the next level."""
        import numpy as np

        from fgssl.errors import DataError
        from fgssl.evaluation.hierarchy import several_parents

        labels, names = np.concatenate([self._of(splits.train.labels), self._of(splits.test.labels)]), [*self.ordered]
        if faults := [
            f"evaluation.hierarchy.levels: {len(classes)} of the classes at {names[place]} lie in several at "
            f"{names[place + 1]}, such as number {classes[0]}, so the levels are no tree: take other levels, or pack "
            "the images with labels that are one"
            for place, classes in several_parents(labels).items()
        ]:
            raise DataError("\n".join(faults))

    def value(self, features: "Features") -> dict[str, float]:
        """Return the value of each column."""
        import numpy as np

        from fgssl.evaluation.centroids import nearest_classes
        from fgssl.evaluation.hierarchy import consistency, hierarchical_distance, mistake_severity

        labels, truth = self._of(features.train.labels), self._of(features.test.labels)
        found, predicted = dict[str, float](), np.empty_like(truth)
        for place, name in enumerate(self.ordered):
            own = labels[:, place], truth[:, place]
            nearest = nearest_classes(features.of_train, own[0], features.of_test, own[1], "hierarchy")
            predicted[:, place] = nearest.cpu().numpy()
            features.outcomes.classified(f"centroid_{name}", predicted[:, place], own[1])
            found[f"centroid_{name}"] = 100 * float((predicted[:, place] == own[1]).mean())
        found["consistency"] = consistency(predicted, labels)
        found["hierarchical_distance"] = hierarchical_distance(predicted[:, 0], truth, labels)
        found["mistake_severity"] = mistake_severity(predicted[:, 0], truth, labels)
        return found

    def _of(self, labels: "NDArray[int64]") -> "NDArray[int64]":
        """Return the columns of labels (N, all levels) at these levels, finest first."""
        return labels[:, list(self.ordered.values())]
