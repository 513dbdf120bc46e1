"""Measure `retrieval_across`: ranks of the test images of a query's class that lie in other groups than the query."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fgssl.settings.declare import settings
from fgssl.settings.measure import Column, Measure, single_class

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features, Splits
    from fgssl.store.manifest import Manifest

_NAMES = ("rank1", "rank5", "mAP")
_ACROSS, _WITH_GROUP = "_across", "_with_group"
"""Last parts of the columns' names, after those of `retrieval`: without and with the own group in the gallery."""
_QUERIES = "queries_across"
_NO_QUERY = (
    "has a positive in another group, since no group has two test images, or each class lies in one: pack test images "
    "with their groups (such as a column `group` of `fgssl pack csv`), take a coarser evaluation.label_level, or set "
    "evaluation.retrieval_across to false"
)


@settings
class RetrievalAcross(Measure):
    """Retrieval as `retrieval` has it, but the test images of the query's own group are left out of its gallery.

    Images of one group, such as the frames of a track, are found by what they share beside the class: the same animal,
    the same background. How much that adds is the difference of `rank1_with_group` from `rank1_across`: both are over
    the queries with a positive in another group. `rank1` of `retrieval` is over all queries with a positive, of which
    `queries_across` is their share.
    """

    def columns(self) -> list[Column]:
        """Return rank-1, rank-5 and mAP across groups, the same with the own group, and the share of the queries."""
        across = "percent; the test images of the query's own group are left out"
        same = "percent of the queries that the columns `_across` count; their own group is not left out"
        share = "percent of the queries of `retrieval` that have a positive in another group"
        return [
            *(Column(name=f"{name}{_ACROSS}", unit="percent", note=across) for name in _NAMES),
            *(Column(name=f"{name}{_WITH_GROUP}", unit="percent", note=same, shown=False) for name in _NAMES),
            Column(name=_QUERIES, unit="percent", note=share, shown=False),
        ]

    def remarks(self, values: Mapping[str, float]) -> list[str]:
        """Return a remark if `retrieval` counts further queries."""
        share = values.get(_QUERIES, 100.0)
        if share == 100:
            return []
        return [
            f"rank1_across, rank5_across, mAP_across: {share:.2f} percent of the queries of retrieval have a positive "
            "in another group and count: compare with rank1_with_group, rank5_with_group and mAP_with_group over the "
            "same queries (evaluation.shown_columns puts them into tables), not with rank1, rank5 and mAP"
        ]

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
        """Return the value of each column; those with a rank are as `retrieval` has them."""
        from fgssl.evaluation.ranking import ranked_queries, shares

        images = features.of_test, features.test_labels, features.track
        across, every = ranked_queries(*images, features.test.groups), ranked_queries(*images)
        counted = across[0] > 0
        values = {_QUERIES: 100 * int(counted.sum()) / int((every[0] > 0).sum())}
        for suffix, found in ((_ACROSS, across), (_WITH_GROUP, every)):
            rank, precision = (part * counted for part in found)
            features.outcomes.ranked(rank.cpu().numpy(), precision.cpu().numpy(), suffix)
            values |= {f"{name}{suffix}": value for name, value in shares(rank, precision).items()}
        return values
