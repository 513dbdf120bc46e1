"""Measure `retrieval`: ranks of the test images of a query's class."""

from typing import TYPE_CHECKING

from fgssl.settings.declare import settings
from fgssl.settings.measure import Column, Measure, single_class

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features
    from fgssl.store.manifest import Manifest


@settings
class Retrieval(Measure):
    """Leave-one-out retrieval, in which each test image is a query to all others."""

    @classmethod
    def default(cls) -> bool:
        """Return true: retrieval is measured unless it is turned off."""
        return True

    def columns(self) -> list[Column]:
        """Return the columns `rank1`, `rank5` and `mAP`, in percent."""
        return [Column(name=name, unit="percent") for name in ("rank1", "rank5", "mAP")]

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return a message if no two test images share a class at this level, or if all of them do."""
        if "test" not in manifest.splits or max(manifest.class_counts["test"][label_level]) > 1:
            return single_class(manifest, "test", "evaluation.retrieval", label_level)
        return [
            f"evaluation.retrieval: no two of the {manifest.count('test')} test images of {manifest.title} share a "
            f"{manifest.levels[label_level].name} (evaluation.label_level {label_level}): take a coarser level, pack a "
            "test split with several images per class, or set evaluation.retrieval to false"
        ]

    def value(self, features: "Features") -> dict[str, float]:
        """Return all three columns, as `retrieval` does."""
        from fgssl.evaluation.ranking import ranked_queries, shares

        rank, precision = ranked_queries(features.of_test, features.test_labels, features.track)
        features.outcomes.ranked(rank.cpu().numpy(), precision.cpu().numpy())
        return shares(rank, precision)
