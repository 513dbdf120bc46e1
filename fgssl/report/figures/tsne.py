"""Maps of the test images by t-SNE, one panel a cell, colored by the coarse level (*HCL*, Fig. 2)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.centroids import nearest_classes
from fgssl.report.figures import style
from fgssl.report.figures.class_colors import class_colors
from fgssl.report.figures.pictures import few
from fgssl.report.figures.records import Embedding, NotDrawnError, evenly_spaced, first_of_each_cell
from fgssl.report.map import FEWEST, feature_map
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

needs = ("plan", "embeddings")

MOST_IMAGES, MOST_CELLS = 10_000, 9


@style.house_style
def draw(plan: PlanRecord, embeddings: Sequence[Embedding]) -> "Figure":
    """Draw a map for the first seed of each cell. Outliers, whose nearest centroid is another class's, are crosses."""
    from matplotlib.lines import Line2D

    large = [one for one in first_of_each_cell(list(embeddings)) if len(one.images["test"]) >= FEWEST]
    if not large:
        raise NotDrawnError(f"a map needs {FEWEST} test images or more")
    shown, more = few(large, MOST_CELLS, plan.baseline)
    columns = min(len(shown), 3)
    rows = math.ceil(len(shown) / columns)
    width = style.ONE_COLUMN if columns == 1 else style.TWO_COLUMNS
    side = width / columns
    handles: dict[str, Any] = {}
    maps = _maps(shown)
    extents = [np.ptp(points, axis=0) for points in maps]
    aspect = float(np.clip(max(extent[1] / max(extent[0], 1e-12) for extent in extents), 0.5, 1.0))
    figure, grid = style.panels(rows, columns, width=width, panel_height=aspect * side + 0.3)
    for axes, one, points in zip(grid.flat, shown, maps, strict=False):
        for name, color in _panel(axes, one, points, aspect, width / columns - 0.1).items():
            handles[name] = Line2D([], [], color=color, marker="o", linestyle="none")
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    handles["outlier"] = Line2D([], [], color=style.GRAY, marker="x", linestyle="none")
    level = shown[0].levels[shown[0].coarse].name
    return style.finish(figure, [handles], _note(shown, level) + more)


def _maps(shown: Sequence[Embedding]) -> list[NDArray[np.float32]]:
    """Return the map of each embedding; those of the first one's images start from its map."""
    maps: list[NDArray[np.float32]] = []
    for one in shown:
        same = maps and one.images["test"].version == shown[0].images["test"].version
        maps.append(feature_map(one.folder.path, one.features("test")[shown_rows(one)], maps[0] if same else None))
    return maps


def _note(shown: Sequence[Embedding], level: str) -> str:
    seeds = sorted({one.seed for one in shown})
    known = " or ".join(dict.fromkeys({"train": "training", "test": "test"}[one.known] for one in shown))
    note = (
        f"t-SNE of the test images, seed {', '.join(map(str, seeds))}; all maps start from the first. Outlier: the "
        f"nearest centroid of {known} images is that of another {level}."
    )
    fewer = any(len(one.images["test"]) > MOST_IMAGES for one in shown)
    return f"{note} {MOST_IMAGES:,} of the images are shown." if fewer else note


def shown_rows(one: Embedding) -> NDArray[np.int64]:
    """Return the rows of the test images that a map shows: all, or `MOST_IMAGES` at equal steps of the shards."""
    images = len(one.images["test"])
    return evenly_spaced(images, MOST_IMAGES)


def _panel(axes: Any, one: Embedding, points: NDArray[np.float32], aspect: float, width: float) -> dict[str, str]:
    """Draw a map, and return the color of each name in the legend."""
    truth = one.images["test"].labels[shown_rows(one), one.coarse]
    nearest = nearest_classes(
        one.features(one.known), one.images[one.known].labels[:, one.coarse], one.features("test")[shown_rows(one)]
    )
    colors, legend = class_colors(truth, one.levels[one.coarse].classes)
    outlier = nearest != truth
    size = float(np.clip(2500 / len(points), 1.0, 8.0))
    axes.scatter(*points[~outlier].T, s=size, c=colors[~outlier], linewidths=0, alpha=0.7, rasterized=True)
    axes.scatter(*points[outlier].T, s=2 * size, c=colors[outlier], marker="x", linewidths=0.7, rasterized=True)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(True)
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, 0.54 * max(high[0] - low[0], (high[1] - low[1]) / aspect)
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - aspect * half, middle[1] + aspect * half)
    axes.set_box_aspect(aspect)
    count = f"{int(outlier.sum()):,} of {len(points):,} outliers"
    axes.set_title(f"{style.shortened(one.cell, width)}\n{count}")
    return legend
