"""Nuisances against accuracy: how much light, pose or background an encoder keeps, and how well it recognizes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fgssl.report.figures import style
from fgssl.report.figures.records import NotDrawnError
from fgssl.report.rows import Row
from fgssl.report.statistics import Estimate, estimate
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

needs = ("plan", "rows")


@style.house_style
def draw(plan: PlanRecord, rows: Sequence[Row]) -> "Figure":
    """Draw a panel for each nuisance: a small point for each seed, and the mean with its interval for each cell."""
    nuisances = [name for name in plan.columns if name.startswith("nuisance_")]
    if not nuisances:
        raise NotDrawnError("no run measures nuisances (evaluation.nuisances)")
    accuracy = _accuracy(plan)
    values = {
        name: {cell.cell: found for cell in plan.cells if (found := _pairs(rows, cell.cell, name, accuracy))}
        for name in nuisances
    }
    if not any(values.values()):
        raise NotDrawnError("no run that measures nuisances is done")
    columns = min(3, len(nuisances))
    figure, grid = style.panels(
        math.ceil(len(nuisances) / columns),
        columns,
        width=style.ONE_COLUMN if columns == 1 else style.TWO_COLUMNS,
        panel_height=2.2,
        sharey=True,
    )
    looks, handles = style.looks(cell.cell for cell in plan.cells), dict[str, Any]()
    for axes, name in zip(grid.flat, nuisances, strict=False):
        for cell, pairs in values[name].items():
            handles[cell] = _cell(axes, pairs, looks[cell])
        axes.grid(visible=True, axis="both")
        axes.set_xlabel(style.axis_label(name, "percent", lower_is_better=True))
    for axes in grid.flat[len(nuisances) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel(style.axis_label(accuracy, plan.columns[accuracy].unit))
    several = max(len(pairs) for of_name in values.values() for pairs in of_name.values()) > 1
    spread = "Large: mean, with the standard deviation over the seeds; small: each seed." if several else "One seed."
    return style.finish(figure, [handles], f"{spread} Up and to the left is better.")


def _accuracy(plan: PlanRecord) -> str:
    """Return the primary measure, or the first measure in percent of which more is better."""
    columns = plan.columns
    for name in filter(None, [plan.primary, *plan.metrics]):
        if columns[name].unit == "percent" and not columns[name].lower_is_better:
            return name
    raise NotDrawnError("the table shows no accuracy in percent")


def _pairs(rows: Sequence[Row], cell: str, nuisance: str, accuracy: str) -> list[tuple[float, float]]:
    """Return both numbers of each run of a cell that has them."""
    found = [(row[nuisance], row[accuracy]) for row in rows if row["cell"] == cell]
    return [(x, y) for x, y in found if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)]


def _cell(axes: Any, pairs: Sequence[tuple[float, float]], look: dict[str, Any]) -> Any:
    x, y = (estimate(values) for values in zip(*pairs, strict=True))
    if len(pairs) > 1:
        axes.scatter(
            *zip(*pairs, strict=True), s=5, alpha=0.5, linewidths=0, color=look["color"], marker=look["marker"]
        )
    bars = {"xerr": _bar(x), "yerr": _bar(y), "elinewidth": 0.7, "linestyle": "none"}
    return axes.errorbar(x.mean, y.mean, **bars, color=look["color"], marker=look["marker"], markersize=4.5)


def _bar(found: Estimate) -> float | None:
    return None if math.isnan(found.std) else found.std
