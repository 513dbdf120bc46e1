"""Measure `retrieval_across`: ranks of the test images of a query's class that lie in other groups than the query."""

from typing import TYPE_CHECKING

from fgssl.settings.declare import settings
from fgssl.settings.measure import Column, Measure, single_class

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features, Splits
    from fgssl.store.manifest import Manifest

SUFFIX = "_across"
"""Last part of the columns' names, after those of `retrieval`."""
_NO_QUERY = (
    "has a positive in another group, since no group has two test images, or each class lies in one: pack test images "
    "with their groups (such as a column `group` of `fgssl pack csv`), take a coarser evaluation.label_level, or set "
    "evaluation.retrieval_across to false"
)


@settings
class RetrievalAcross(Measure):
    """Retrieval as `retrieval` has it, but the test images of the query's own group are left out of its gallery.

    Images of one group, such as the frames of a track, are found by what they share beside the class: the same animal,
    the same background. The difference from `rank1` and `mAP` shows how much of these is that.
    """

    def columns(self) -> list[Column]:
        """Return the columns `rank1_across`, `rank5_across` and `mAP_across`, in percent."""
        note = "percent; the test images of the query's own group are left out"
        return [Column(name=f"{name}{SUFFIX}", unit="percent", note=note) for name in ("rank1", "rank5", "mAP")]

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return a message if no test image has one of its class in another group, or if all are of one class.

        The groups of datasets that an earlier version packed are known to `check` only.
        """
        if "test" not in manifest.splits:
            return []
        if manifest.across_groups is None or manifest.across_groups["test"][label_level]:
            return single_class(manifest, "test", "evaluation.retrieval_across", label_level)
        return [f"evaluation.retrieval_across: no test image of {manifest.title} {_NO_QUERY}"]

    def check(self, splits: "Splits") -> None:
        """Raise a `DataError` if no test image has one of its class in another group."""
        from fgssl.data.groups import classes_across_groups
        from fgssl.errors import DataError

        if classes_across_groups(splits.test_labels[:, None], splits.test.groups) == (0,):
            raise DataError(f"evaluation.retrieval_across: no test image {_NO_QUERY}")

    def value(self, features: "Features") -> dict[str, float]:
        """Return all three columns, as `retrieval` does with groups."""
        from fgssl.evaluation.ranking import ranked_queries, shares

        groups = features.test.groups
        rank, precision = ranked_queries(features.of_test, features.test_labels, features.track, groups)
        features.outcomes.ranked(rank.cpu().numpy(), precision.cpu().numpy(), SUFFIX)
        return {f"{name}{SUFFIX}": value for name, value in shares(rank, precision).items()}
