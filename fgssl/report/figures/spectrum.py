"""Spread of the feature dimensions, and how well classes separate along them (*Synthesized Pairs*, Fig. 2)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.figures import style
from fgssl.report.figures.class_colors import class_colors
from fgssl.report.figures.records import Embedding, NotDrawnError, first_of_each_cell
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

needs = ("plan", "embeddings")

MOST_POINTS = 1500
CONSTANT = 1e-6
"""Standard deviation, in multiples of the mean one, up to which a dimension counts as constant."""


@style.house_style
def draw(plan: PlanRecord, embeddings: Sequence[Embedding]) -> "Figure":
    """Draw the spectrum of each cell's first seed, and the dimensions of the baseline (or the first cell) in detail."""
    from matplotlib.lines import Line2D

    shown = first_of_each_cell(list(embeddings))
    detailed = next((one for one in shown if one.cell == plan.baseline), shown[0])
    features = detailed.features("test").astype(np.float64)
    std = relative_std(features)
    varied = np.flatnonzero(std > CONSTANT)
    if len(varied) < 4:
        raise NotDrawnError(f"{detailed.cell}: fewer than 4 dimensions of the features vary")
    figure, grid = style.panels(1, 4, width=style.TWO_COLUMNS, panel_height=1.75)
    handles: dict[str, Any] = {}
    spectrum, high, low, separation = grid[0]
    looks = style.looks(cell.cell for cell in plan.cells)
    for one in shown:
        found = np.sort(std if one is detailed else relative_std(one.features("test").astype(np.float64)))[::-1]
        found = found[found > CONSTANT]
        look = {**looks[one.cell], "marker": "none"}
        (handles[one.cell],) = spectrum.plot(np.arange(1, len(found) + 1), found, **look)
    style.log_axis(spectrum, "y")
    spectrum.set_xlabel("dimension, by rank")
    spectrum.set_ylabel("standard deviation")
    spectrum.set_title("all dimensions")
    order = varied[np.argsort(std[varied], kind="stable")]
    labels = detailed.images["test"].labels
    classes = detailed.levels[detailed.coarse].classes
    colors, legend = class_colors(labels[:, detailed.coarse], classes)
    scaled = (features - features.mean(axis=0)) / _mean_std(features)
    _points(high, scaled[:, order[[-1, -2]]], colors, "highest variance", order[[-1, -2]])
    _points(low, scaled[:, order[[0, 1]]], colors, "lowest variance", order[[0, 1]])
    shares = between_classes(features[:, varied], labels[:, 0])
    separation.scatter(std[varied], shares, s=3, color=style.GRAY, linewidths=0, alpha=0.7, rasterized=True)
    chance = (len(np.unique(labels[:, 0])) - 1) / max(len(labels) - 1, 1)
    separation.axhline(chance, color=style.COLORS["black"], linewidth=0.8, linestyle=(0, (3, 2)))
    style.log_axis(separation, "x")
    separation.set_ylim(0, max(2 * chance, 1.05 * float(shares.max())))
    separation.set_xlabel("standard deviation")
    separation.set_ylabel(f"variance between {detailed.levels[0].name}")
    separation.set_title("separation")
    style.letter(grid[0])
    classes_shown = {name: Line2D([], [], color=color, marker="o", linestyle="none") for name, color in legend.items()}
    constant = features.shape[1] - len(varied)
    note = (
        "Test images; numbers are in multiples of the mean standard deviation of a dimension. (b) to (d): "
        f"{detailed.cell}, seed {detailed.seed}. (d): share of a dimension's variance that lies between "
        f"{detailed.levels[0].name}; dashed: expected of a dimension that ignores them."
    )
    if constant:
        note += f" {constant} of {features.shape[1]} dimensions are constant and left out."
    return style.finish(figure, [handles, classes_shown], note)


def relative_std(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation (D,) of each dimension in multiples of their mean, so that encoders compare."""
    return features.std(axis=0) / _mean_std(features)


def _mean_std(features: NDArray[np.float64]) -> float:
    return float(features.std(axis=0).mean()) or 1.0


def between_classes(features: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share (D,) of each dimension's variance that lies between the means of the classes, 0 to 1."""
    _, class_of_row, counts = np.unique(labels, return_inverse=True, return_counts=True)
    centered = features - features.mean(axis=0)
    sums = np.zeros((len(counts), features.shape[1]))
    np.add.at(sums, class_of_row, centered)
    within = (sums**2 / counts[:, None]).sum(axis=0)
    total = (centered**2).sum(axis=0)
    return np.divide(within, total, out=np.zeros_like(total), where=total > 0)


def _points(axes: Any, points: NDArray[np.float64], colors: NDArray[Any], title: str, names: NDArray[np.int64]) -> None:
    chosen = np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).round().astype(np.int64)
    axes.scatter(*points[chosen].T, s=3, c=colors[chosen], linewidths=0, alpha=0.7, rasterized=True)
    axes.grid(visible=False)
    axes.set_title(title)
    axes.set_xlabel(f"dimension {names[0]}")
    axes.set_ylabel(f"dimension {names[1]}")
