"""Embedding of test images for the page: maps, nearest neighbors, outliers and attributes of one run, or of two.

Neighbors and distances are those of the features (1 - cosine); the map only places the images.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fgssl.report.centroids import nearest_classes, unit_rows
from fgssl.report.figures.records import Embedding
from fgssl.report.figures.tsne import shown_rows
from fgssl.report.map import feature_map
from fgssl.report.page import content
from fgssl.report.page.fitting import fit

NEIGHBORS = 10
IMAGES_AT_ONCE = 512


def embed(runs: Sequence[Embedding], most_bytes: int) -> content.Embedding:
    """Return the embedding of one run, or of two with the same test images, with thumbnails, in `most_bytes` at most.

    The second map starts from the first, so that what both encoders see alike lies in the same place.
    """
    first = runs[0]
    rows = shown_rows(first)
    images = first.images["test"]
    maps: list[content.Map] = []
    for one in runs:
        maps.append(_map(one, rows, maps[0].points if maps else None))
    made = content.Embedding(
        ids=tuple(np.asarray(list(images.source_ids))[rows].tolist()),
        levels=tuple(
            content.Level(level.name, tuple(level.classes), images.labels[rows, number])
            for number, level in enumerate(first.levels)
        ),
        attributes={name: values[rows] for name, values in images.attributes.items()},
        maps=tuple(maps),
        jaccard=content.neighborhood_jaccard(maps[0].neighbors, maps[1].neighbors) if len(maps) == 2 else None,
    )
    fitted = fit(made, lambda row: images.pixels(int(rows[row])), most_bytes)
    if len(rows) == len(images):
        return fitted
    fewer = (
        f"The map holds {len(rows):,} of the {len(images):,} test images, at equal distances in the shards; "
        "neighbors are sought among them."
    )
    return replace(fitted, left_out=f"{fewer} {fitted.left_out}".rstrip())


def _map(one: Embedding, rows: NDArray[np.int64], start: NDArray[np.float32] | None) -> content.Map:
    features = one.features("test")[rows]
    points = feature_map(one.folder.path, features, start)
    neighbors, distances, trustworthiness = neighborhoods(features, points)
    known, labels = one.features(one.known), one.images[one.known].labels
    truth = one.images["test"].labels[rows]
    measured = one.config.evaluation and one.config.evaluation.outliers
    outliers = np.zeros(truth.shape, dtype=bool)
    for level in measured.levels.values() if measured else range(truth.shape[1]):
        outliers[:, level] = nearest_classes(known, labels[:, level], features) != truth[:, level]
    return content.Map(
        title=f"{one.cell}, seed {one.seed}",
        points=points,
        neighbors=neighbors,
        distances=distances,
        outliers=outliers,
        trustworthiness=trustworthiness,
    )


def neighborhoods(
    features: NDArray[np.generic], points: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32], float]:
    """Return the nearest images (N, K) in feature space, their distances (N, K), and the map's trustworthiness.

    The distance is 1 - cosine, and the nearest come first. Trustworthiness at K neighbors (Venna and Kaski 2001) is 1
    if each image's neighbors on the map are its neighbors in feature space. K is 10, or less if there are few images.
    """
    units = unit_rows(features)
    count = len(units)
    k = max(1, min(NEIGHBORS, (count - 1) // 2))
    _, on_map = cKDTree(points).query(points, k + 1)
    found, distances, penalty = [], [], 0
    for first in range(0, count, IMAGES_AT_ONCE):
        chunk = np.arange(first, min(first + IMAGES_AT_ONCE, count))
        cosine = units[chunk] @ units.T
        cosine[np.arange(len(chunk)), chunk] = -np.inf
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        order = np.lexsort((nearest, -np.take_along_axis(cosine, nearest, axis=1)), axis=1)
        nearest = np.take_along_axis(nearest, order, axis=1)
        found.append(nearest)
        distances.append(1 - np.take_along_axis(cosine, nearest, axis=1))
        for row, place in zip(cosine, chunk.tolist(), strict=True):
            others = on_map[place][on_map[place] != place][:k]
            ranks = 1 + (row[None, :] > row[others, None]).sum(axis=1)
            penalty += int(np.maximum(ranks - k, 0).sum())
    trustworthiness = 1 - 2 * penalty / (count * k * (2 * count - 3 * k - 1))
    return np.concatenate(found), np.concatenate(distances).clip(min=0).astype(np.float32), trustworthiness
