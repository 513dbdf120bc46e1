"""Confusion between classes of one coarse class, such as species of a genus, for the baseline and the best cell."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.centroids import nearest_classes
from fgssl.report.figures import style
from fgssl.report.figures.records import Embedding, NotDrawnError, compared_metric, first_of_each_cell
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = ("plan", "table", "embeddings")

GROUPS, CLASSES = 2, 8
"""Most coarse classes, and most classes of each: those with the most confusions."""
NAME_IN = 1.05
"""Width of the names of classes."""


@style.house_style
def draw(plan: PlanRecord, table: "pd.DataFrame", embeddings: Sequence[Embedding]) -> "Figure":
    """Draw the shares of the test images of a class that lie nearest to the centroid of each class of its group."""
    first = first_of_each_cell(list(embeddings))[0]
    coarse_level, cells = first.levels[first.coarse], _compared(plan, table, embeddings)
    counts = {cell: np.sum([confusions(one) for one in of_cell], axis=0) for cell, of_cell in cells.items()}
    groups = most_confused(np.sum(list(counts.values()), axis=0), _coarse(first))
    if not groups:
        raise NotDrawnError(f"no {coarse_level.name} has test images of two {first.levels[0].name}")
    names = first.levels[0].classes
    height = 0.17 * max(len(classes) for classes in groups.values()) + 0.6
    width = style.TWO_COLUMNS if len(groups) > 1 else style.TWO_COLUMNS / 2 + 0.4
    figure, grid = style.panels(len(cells), len(groups), width=width, panel_height=height)
    for row, (cell, of_cell) in zip(grid, counts.items(), strict=True):
        for axes, (coarse, classes) in zip(row, groups.items(), strict=True):
            _matrix(axes, of_cell, classes, names)
            group = coarse_level.classes[coarse] if len(first.levels) > 1 else "most confused"
            room = width / len(groups) - NAME_IN - 0.3
            axes.set_title(f"{style.shortened(cell, room)}\n{style.shortened(group, room)}")
    note = (
        f"Percent of the test images of each {first.levels[0].name} by the {first.levels[0].name} whose centroid of "
        f"training features is nearest (letters as in the rows; …: all others). {_of_cells(plan, cells)}"
    )
    return style.finish(figure, [], note)


def _of_cells(plan: PlanRecord, cells: Mapping[str, Sequence[Embedding]]) -> str:
    seeds = max(map(len, cells.values()))
    which = "The baseline and the best other cell" if plan.baseline in cells else "The best cells"
    return f"{which} by {compared_metric(plan)}, {f'all {seeds} seeds' if seeds > 1 else 'one seed'}."


def _matrix(axes: Any, counts: NDArray[np.int64], classes: NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw the shares of some classes, with a last column for all other classes."""
    from matplotlib.patches import Rectangle

    within = counts[np.ix_(classes, classes)]
    total = counts[classes].sum(axis=1, keepdims=True)
    percent = 100 * np.hstack([within, total - within.sum(axis=1, keepdims=True)]) / np.maximum(total, 1)
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=110, aspect="auto", interpolation="nearest")
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            color = "white" if value > 60 else style.COLORS["black"]
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=style.SMALL_POINTS)
        if row == column:
            axes.add_patch(Rectangle((column - 0.4, row - 0.42), 0.8, 0.84, fill=False, edgecolor=style.GRAY, lw=0.6))
    letters = "abcdefghijkl"[: len(classes)]
    axes.set_xticks(range(len(classes) + 1), [*letters, "…"])
    labels = [
        f"{style.shortened(names[found], NAME_IN, style.SMALL_POINTS)}  {letter}"
        for found, letter in zip(classes, letters, strict=True)
    ]
    axes.set_yticks(range(len(classes)), labels)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.axvline(len(classes) - 0.5, color="white", linewidth=2)


def _coarse(one: Embedding) -> NDArray[np.int64]:
    """Return the coarse class (C,) of each class that has test images, and -1 for the others."""
    labels = one.images["test"].labels
    found = np.full(len(one.levels[0].classes), -1)
    found[labels[:, 0]] = labels[:, 1] if labels.shape[1] > 1 else 0
    return found


def most_confused(counts: NDArray[np.int64], coarse: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Return the classes by coarse class, given the counts (C, C) of `confusions`, where confusions are most frequent.

    They are at most `CLASSES` of `GROUPS` coarse classes; a coarse class of one class is left out.
    """
    wrong = counts * ((coarse[:, None] == coarse[None, :]) & ~np.eye(len(coarse), dtype=bool))
    involved = wrong.sum(axis=0) + wrong.sum(axis=1)
    members = {group: np.flatnonzero(coarse == group) for group in np.unique(coarse[coarse >= 0]).tolist()}
    several = [group for group, classes in members.items() if len(classes) > 1]
    chosen = sorted(several, key=lambda group: -int(involved[members[group]].sum()))[:GROUPS]
    return {
        group: np.sort(members[group][np.argsort(-involved[members[group]], kind="stable")[:CLASSES]])
        for group in chosen
    }


def _compared(plan: PlanRecord, table: "pd.DataFrame", embeddings: Sequence[Embedding]) -> dict[str, list[Embedding]]:
    """Return all seeds of the baseline and of the best other cell, or of the best two cells, by cell."""
    metric = compared_metric(plan)
    there = dict.fromkeys(one.cell for one in embeddings)
    means = table[(table["metric"] == metric) & table["cell"].isin(list(there)) & (table["n"] > 0)]
    ordered = means.sort_values("mean", ascending=plan.columns[metric].lower_is_better, kind="stable")
    first = [cell for cell in there if cell == plan.baseline]
    chosen = list(dict.fromkeys([*first, *ordered["cell"], *there]))[:2]
    return {cell: [one for one in embeddings if one.cell == cell] for cell in chosen}


def confusions(one: Embedding) -> NDArray[np.int64]:
    """Return the number of test images (C, C) of each class by the class whose centroid is nearest."""
    labels, classes = one.images["test"].labels[:, 0], len(one.levels[0].classes)
    nearest = nearest_classes(one.features("train"), one.images["train"].labels[:, 0], one.features("test"))
    return np.bincount(labels * classes + nearest, minlength=classes**2).reshape(classes, classes)
