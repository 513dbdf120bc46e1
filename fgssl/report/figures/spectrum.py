"""Spread of the feature dimensions, and how well classes separate along them (*Synthesized Pairs*, Fig. 2)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.figures import style
from fgssl.report.figures.class_colors import class_colors
from fgssl.report.figures.records import Embedding, NotDrawnError, evenly_spaced, first_of_each_cell
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
    cells = _spectrum(grid[0, 0], plan, shown)
    labels = detailed.images["test"].labels
    colors, legend = class_colors(labels[:, detailed.coarse], detailed.levels[detailed.coarse].classes)
    scaled = (features - features.mean(axis=0)) / _mean_std(features)
    order = varied[np.argsort(std[varied], kind="stable")]
    _points(grid[0, 1], scaled, order[[-1, -2]], colors, "highest variance")
    _points(grid[0, 2], scaled, order[[0, 1]], colors, "lowest variance")
    _separation(grid[0, 3], std[varied], features[:, varied], labels[:, 0])
    grid[0, 3].set_ylabel("share between classes")
    style.letter(grid[0])
    classes = {name: Line2D([], [], color=color, marker="o", linestyle="none") for name, color in legend.items()}
    note = (
        "Test images; numbers are in multiples of the mean standard deviation of a dimension. (b) to (d): "
        f"{detailed.cell}, seed {detailed.seed}. (d): share of a dimension's variance that lies between the "
        f"classes ({detailed.levels[0].name}); dashed: expected of a dimension that ignores them."
    )
    if constant := features.shape[1] - len(varied):
        note += f" {constant} of {features.shape[1]} dimensions are constant and left out."
    return style.finish(figure, [cells, classes], note)


def _spectrum(axes: Any, plan: PlanRecord, shown: Sequence[Embedding]) -> dict[str, Any]:
    """Draw the sorted standard deviations of each cell that has any, and return the lines by cell."""
    lines: dict[str, Any] = {}
    looks = style.looks(cell.cell for cell in plan.cells)
    for one in shown:
        found = np.sort(relative_std(one.features("test").astype(np.float64)))[::-1]
        found = found[found > CONSTANT]
        (lines[one.cell],) = axes.plot(np.arange(1, len(found) + 1), found, **{**looks[one.cell], "marker": "none"})
    style.log_axis(axes, "y")
    axes.set_xlabel("dimension, by rank")
    axes.set_ylabel("standard deviation")
    axes.set_title("all dimensions")
    return lines


def _points(axes: Any, scaled: NDArray[np.float64], pair: NDArray[np.int64], colors: NDArray[Any], title: str) -> None:
    """Draw the images along two dimensions."""
    chosen = evenly_spaced(len(scaled), MOST_POINTS)
    points = scaled[np.ix_(chosen, pair)]
    axes.scatter(*points.T, s=3, c=colors[chosen], linewidths=0, alpha=0.7, rasterized=True)
    axes.grid(visible=False)
    axes.set_title(title)
    axes.set_xlabel(f"dimension {pair[0]}")
    axes.set_ylabel(f"dimension {pair[1]}")


def _separation(axes: Any, std: NDArray[np.float64], features: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    """Draw the share of variance between classes against the standard deviation of each dimension."""
    shares = between_classes(features, labels)
    chance = (len(np.unique(labels)) - 1) / max(len(labels) - 1, 1)
    axes.scatter(std, shares, s=3, color=style.GRAY, linewidths=0, alpha=0.7, rasterized=True)
    axes.axhline(chance, color=style.COLORS["black"], linewidth=0.8, linestyle=(0, (3, 2)))
    style.log_axis(axes, "x")
    axes.set_ylim(0, max(2 * chance, 1.05 * float(shares.max())))
    axes.set_xlabel("standard deviation")
    axes.set_title("separation")


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
    between = (sums**2 / counts[:, None]).sum(axis=0)
    total = (centered**2).sum(axis=0)
    return np.divide(between, total, out=np.zeros_like(total), where=total > 0)
