"""Comparison of cells over single test images, from the outcomes that evaluations keep.

A table over seeds shows what another training would give. These tables show what other test images would give, and
which images, classes and genera make the difference. All are about one metric: the primary one, or the first of the
table.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fgssl.report.statistics import mcnemar

if TYPE_CHECKING:
    from fgssl.data.shards import ShardedSplit

Hits = Mapping[int, NDArray[np.float64]]
"""Contribution (M,) of each test image to a metric, from 0 to 1 or nan, by seed."""

IMAGES = ("cell", "seeds", "images", "mean", "error", "delta_baseline", "delta_error", "gained", "lost", "p_mcnemar")
CLASSES = ("cell", "level", "class", "images", "mean", "baseline", "delta_baseline")
FLIPPED = ("cell", "image", "class", "right", "right_baseline", "seeds")


@dataclass(frozen=True)
class MetricOutcomes:
    """Outcomes of one metric, of all cells with the same test images."""

    metric: str
    counts_wrong: bool
    """Whether the metric counts images that are wrong, such as outliers."""
    baseline: str | None
    cells: Mapping[str, Hits]
    images: "ShardedSplit | None"
    """The test images, or None if the shards are not there: groups and classes are unknown then."""
    left_out: tuple[str, ...] = ()
    """Cell and seed of each run that measured other test images."""

    def percent(self, hits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the metric of single images, of any shape, in percent: 0 or 100 if it is a share of images."""
        return 100 * (1 - hits if self.counts_wrong else hits)

    def paired(self, cell: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the values (S, M) of the seeds that a cell and the baseline share, in both; None if there are none."""
        if self.baseline is None or cell == self.baseline or self.baseline not in self.cells:
            return None
        here, there = self.cells[cell], self.cells[self.baseline]
        if not (seeds := [seed for seed in here if seed in there]):
            return None
        return np.stack([here[seed] for seed in seeds]), np.stack([there[seed] for seed in seeds])


def image_table(outcomes: MetricOutcomes) -> pd.DataFrame:
    """Return a row per cell with the columns `IMAGES`.

    `mean` is that of all images and seeds in percent, and `error` its standard error over test images, where images of
    one group count as one observation. A count, such as that of outliers, is a share of the images here. The rest is
    paired by seed: `delta_baseline` with the error of the difference, the mean number of images per seed that the cell
    gets right and the baseline does not (`gained`), and the converse (`lost`). `p_mcnemar` is the exact test of McNemar
    (1947) at the seed where it shows the least. A group of several images counts once, by whether it gained or lost
    more of them, since the frames of a track are right or wrong together. The last three are empty if the metric is no
    share of images, such as mAP.
    """
    entries = []
    for cell, by_seed in outcomes.cells.items():
        values = np.stack(list(by_seed.values()))
        counted = np.asarray(~np.isnan(values).any(axis=0))
        of_images = outcomes.percent(values[:, counted]).mean(axis=0)
        entry = {"cell": cell, "seeds": len(values), "images": int(counted.sum())}
        entry |= {"mean": float(of_images.mean()), "error": _error(of_images, outcomes, counted)}
        if (pair := outcomes.paired(cell)) is not None:
            here, there = (part[:, counted] for part in pair)
            difference = (outcomes.percent(here) - outcomes.percent(there)).mean(axis=0)
            entry |= {"delta_baseline": float(difference.mean())}
            entry |= {"delta_error": _error(difference, outcomes, counted)}
            if _is_share(here, there):
                gained, lost = float((here > there).sum(axis=1).mean()), float((here < there).sum(axis=1).mean())
                tests = [_mcnemar(gains, outcomes, counted) for gains in here - there]
                entry |= {"gained": gained, "lost": lost, "p_mcnemar": max(tests)}
        entries.append(entry)
    return pd.DataFrame(entries, columns=list(IMAGES))


def _is_share(*values: NDArray[np.float64]) -> bool:
    return all(np.isin(part, (0.0, 1.0)).all() for part in values)


def _error(of_images: NDArray[np.float64], outcomes: MetricOutcomes, counted: NDArray[np.bool_]) -> float:
    """Return the standard error of the mean of values (M,) over groups of images."""
    sums = _group_sums(of_images - of_images.mean(), outcomes, counted)
    if len(sums) < 2:
        return math.nan
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(of_images))


def _mcnemar(gains: NDArray[np.float64], outcomes: MetricOutcomes, counted: NDArray[np.bool_]) -> float:
    """Return the p value of gains (M,), each 1, 0 or -1, over groups of images."""
    sums = _group_sums(gains, outcomes, counted)
    return mcnemar(int((sums > 0).sum()), int((sums < 0).sum()))


def _group_sums(
    of_images: NDArray[np.float64], outcomes: MetricOutcomes, counted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the sum of values (M,) over each group of images; without shards each image is a group."""
    groups = np.arange(len(of_images)) if outcomes.images is None else outcomes.images.groups[counted]
    _, places = np.unique(groups, return_inverse=True)
    return np.bincount(places, of_images).astype(np.float64)


def class_table(outcomes: MetricOutcomes) -> pd.DataFrame:
    """Return a row per cell, level and class of the test images with the columns `CLASSES`, in percent.

    `baseline` is the baseline's mean over the same seeds. The table is empty if the shards are not there.
    """
    entries: list[dict[str, object]] = []
    if outcomes.images is None:
        return pd.DataFrame(entries, columns=list(CLASSES))
    for cell, by_seed in outcomes.cells.items():
        pair = outcomes.paired(cell)
        means = {"mean": outcomes.percent(np.stack(list(by_seed.values())))}
        if pair is not None:
            here, there = map(outcomes.percent, pair)
            means |= {"baseline": there, "delta_baseline": here - there}
        for number, level in enumerate(outcomes.images.levels):
            labels = outcomes.images.labels[:, number]
            for label in np.unique(labels):
                of_class = {name: _mean(values[:, labels == label]) for name, values in means.items()}
                count = int((labels == label).sum())
                entries.append(
                    {"cell": cell, "level": level.name, "class": level.classes[label], "images": count, **of_class}
                )
    return pd.DataFrame(entries, columns=list(CLASSES))


def _mean(values: NDArray[np.float64]) -> float:
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else math.nan


def flipped_table(outcomes: MetricOutcomes) -> pd.DataFrame:
    """Return the images that a cell gets right in most seeds and the baseline in few, or the converse.

    The columns are `FLIPPED`: the image, its finest class, and the number of seeds, of `seeds`, in which it is right.
    Images that the cell gained come first. The table is empty without shards, or if the metric is no share of images.
    """
    entries: list[tuple[object, ...]] = []
    images = outcomes.images
    if images is None:
        return pd.DataFrame(entries, columns=list(FLIPPED))
    ids = list(images.source_ids)
    for cell in outcomes.cells:
        pair = outcomes.paired(cell)
        if pair is None or not _is_share(*(part[~np.isnan(part)] for part in pair)):
            continue
        right, before = (np.nansum(part, axis=0).astype(int) for part in pair)
        seeds = len(pair[0])
        flipped = np.flatnonzero((2 * right - seeds) * (2 * before - seeds) < 0)
        order = np.lexsort((flipped, (before - right)[flipped]))
        for row in flipped[order].tolist():
            name = images.levels[0].classes[images.labels[row, 0]] if images.levels else ""
            entries.append((cell, ids[row], name, int(right[row]), int(before[row]), seeds))
    return pd.DataFrame(entries, columns=list(FLIPPED))
