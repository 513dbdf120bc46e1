"""Content of the page, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

NOT_SHOWN = -1
"""Index of a neighbor that is not on the page, because images were left out of it."""


@dataclass(frozen=True)
class Entry:
    """Entry of a table."""

    text: str
    emphasis: Literal["", "best", "second"] = ""
    provenance: str = ""
    """Key of its origin in `Page.provenances`; empty if a click shows nothing."""


@dataclass(frozen=True)
class Table:
    """Table with its caption. The first column names the rows."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True)
class Figure:
    """Picture with its caption."""

    name: str
    caption: str
    kind: Literal["svg", "png"]
    content: bytes
    description: str
    """Text for readers who do not see the picture."""


@dataclass(frozen=True)
class Run:
    """State of a run."""

    name: str
    cell: str
    seed: int
    state: str
    """Such as done, running, failed or missing."""
    detail: str = ""
    """Reason, progress or path of the log."""


@dataclass(frozen=True)
class RunOrigin:
    """Run that an entry was computed from."""

    run: Run
    jobs: tuple[str, ...]
    """Ids of its jobs, first attempt first."""
    hours: float | None
    """Time of training and evaluation, or None if the run is not done."""
    log: str
    """Path of the log."""


@dataclass(frozen=True)
class Provenance:
    """Origin of an entry of a table."""

    title: str
    runs: tuple[RunOrigin, ...]
    differences: tuple[tuple[str, str, str], ...]
    """Settings that differ from the baseline: name, value there, value here."""
    code: str
    """Version of the code."""
    data: str
    """Version of the data."""


@dataclass(frozen=True)
class Level:
    """Level of the labels, such as species or genus."""

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    """Class (N,) of each image."""


@dataclass(frozen=True)
class Thumbnails:
    """Small pictures of the images, squeezed into squares on sprite sheets of 16 x 16."""

    size: int
    """Side of a square in pixels."""
    sheets: tuple[bytes, ...]
    """WebP files, with 256 images each in the order of the images."""
    aspects: NDArray[np.float32]
    """Width over height (N,) of each image before it was squeezed."""


@dataclass(frozen=True)
class Map:
    """Images in the plane, as one run embeds them."""

    title: str
    points: NDArray[np.float32]
    """Coordinates (N, 2)."""
    neighbors: NDArray[np.int64]
    """Nearest images (N, K) in feature space, nearest first, or `NOT_SHOWN`."""
    distances: NDArray[np.float32]
    """Their distances (N, K) in feature space."""
    outliers: NDArray[np.bool_]
    """Whether the nearest class centroid is another class's, (N, levels); False at levels that are not measured."""
    trustworthiness: float
    """Share of neighborhoods in the plane that are neighborhoods in feature space, from 0 to 1."""


@dataclass(frozen=True)
class Embedding:
    """Images as one run embeds them, or as two do. Raises a `ValueError` if lengths differ."""

    ids: tuple[str, ...]
    levels: tuple[Level, ...]
    attributes: Mapping[str, NDArray[np.float64]]
    """Numbers (N,) that are recorded of each image, by name."""
    maps: tuple[Map, ...]
    """One map, or two to be compared."""
    jaccard: NDArray[np.float32] | None = None
    """Overlap (N,) of each image's neighborhoods in two maps, by `neighborhood_jaccard`; None if there is one map."""
    thumbnails: Thumbnails | None = None
    left_out: str = ""
    """Sentence about images that were left out, or empty."""

    def __post_init__(self) -> None:
        arrays: list[NDArray[np.generic]] = [level.labels for level in self.levels]
        arrays += self.attributes.values()
        for one in self.maps:
            arrays += [one.points, one.neighbors, one.distances, one.outliers]
        arrays += [] if self.jaccard is None else [self.jaccard]
        if any(len(array) != len(self.ids) for array in arrays):
            raise ValueError(f"an array has another length than the {len(self.ids)} ids")
        if len(self.maps) not in (1, 2) or (self.jaccard is None) != (len(self.maps) == 1):
            raise ValueError("an embedding has one map, or two and their jaccard")
        if not all(np.isfinite(one.points).all() for one in self.maps):
            raise ValueError("coordinates must be finite")

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the embedding of these images only; neighbors that are not among them become `NOT_SHOWN`."""
        places = np.full(len(self.ids) + 1, NOT_SHOWN, dtype=np.int64)  # the last one is of NOT_SHOWN itself
        places[rows] = np.arange(len(rows))
        maps = [
            replace(
                one,
                points=one.points[rows],
                neighbors=places[one.neighbors[rows]],
                distances=one.distances[rows],
                outliers=one.outliers[rows],
            )
            for one in self.maps
        ]
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            levels=tuple(replace(level, labels=level.labels[rows]) for level in self.levels),
            attributes={name: values[rows] for name, values in self.attributes.items()},
            maps=tuple(maps),
            jaccard=None if self.jaccard is None else self.jaccard[rows],
            thumbnails=None,
        )


@dataclass(frozen=True)
class Page:
    """Content of one HTML file."""

    title: str
    summary: str
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    """Remarks below the tables."""
    figures: tuple[Figure, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    runs: tuple[Run, ...] = ()
    provenances: Mapping[str, Provenance] | None = None


def neighborhood_jaccard(first: NDArray[np.int64], second: NDArray[np.int64], count: int = 10) -> NDArray[np.float32]:
    """Return the overlap (N,) of the `count` nearest neighbors (N, K) of each image: shared over all, from 0 to 1."""
    first, second = first[:, :count], second[:, :count]
    shared = (first[:, :, None] == second[:, None, :]).sum((1, 2))
    return np.asarray(shared / (first.shape[1] + second.shape[1] - shared), dtype=np.float32)
