"""Training curves: the loss and everything else that trainings log, against the step."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.figures import style
from fgssl.report.figures.records import NotDrawnError
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

needs = ("plan", "metrics")

NOT_CURVES = ("step", "epoch")
LAST = ("gradient_norm", "learning_rate")
SPREAD = 100
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


@style.house_style
def draw(plan: PlanRecord, metrics: Mapping[tuple[str, int], Sequence[Mapping[str, float]]]) -> "Figure":
    """Draw a panel for each logged number, with the mean of each cell and a band of one standard deviation."""
    keys = dict.fromkeys(key for lines in metrics.values() for line in lines for key in line if key not in NOT_CURVES)
    names = sorted(keys, key=lambda key: (key != "loss", key in LAST))  # otherwise in the order of the files
    curves = {name: _by_cell(plan, metrics, name) for name in names}
    curves = {name: of_cells for name, of_cells in curves.items() if of_cells}
    if not curves:
        raise NotDrawnError("no complete training has logged anything")
    columns = min(3, len(curves))
    figure, grid = style.panels(
        math.ceil(len(curves) / columns),
        columns,
        width=style.ONE_COLUMN if columns == 1 else style.TWO_COLUMNS,
        panel_height=1.5,
    )
    figure.get_layout_engine().set(h_pad=0.06)
    looks, handles = style.looks(cell.cell for cell in plan.cells), dict[str, Any]()
    for axes, (name, of_cells) in zip(grid.flat, curves.items(), strict=False):
        for cell, (steps, values) in of_cells.items():
            handles[cell] = _curve(axes, steps, values, looks[cell])
        drawn = np.concatenate([values.ravel() for _, values in of_cells.values()])
        drawn = drawn[np.isfinite(drawn)]
        if drawn.min() > 0 and drawn.max() / drawn.min() > SPREAD:
            style.log_axis(axes, "y")
        axes.set_title(style.shortened(name, figure.get_size_inches()[0] / columns - 0.35))
    for place, axes in enumerate(grid.flat):
        if place >= len(curves):
            axes.remove()
        elif place + columns >= len(curves):
            axes.set_xlabel("step")
    several = any(len(values) > 1 for of_cells in curves.values() for _, values in of_cells.values())
    ordered = {cell.cell: handles[cell.cell] for cell in plan.cells if cell.cell in handles}
    return style.finish(figure, [ordered], "Mean ± standard deviation over the seeds." if several else "One seed.")


def _by_cell(
    plan: PlanRecord, metrics: Mapping[tuple[str, int], Sequence[Mapping[str, float]]], name: str
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the steps (S,) and values (seeds, S) of each cell that logs `name`; what a seed lacks is nan."""
    found = {}
    for cell in plan.cells:
        logged = [
            {line["step"]: line[name] for line in metrics[cell.cell, run.seed] if line.get(name) is not None}
            for run in cell.runs
            if (cell.cell, run.seed) in metrics
        ]
        steps = sorted({step for of_seed in logged for step in of_seed})
        values = np.array([[of_seed.get(step, math.nan) for step in steps] for of_seed in logged if of_seed])
        if np.isfinite(values).any():
            found[cell.cell] = np.array(steps, dtype=np.float64), np.where(np.isfinite(values), values, math.nan)
    return found


def _curve(axes: Any, steps: NDArray[np.float64], values: NDArray[np.float64], look: Mapping[str, Any]) -> Any:
    there = np.isfinite(values).sum(axis=0)
    mean = np.divide(np.nansum(values, axis=0), there, out=np.full(len(steps), math.nan), where=there > 0)
    squares = np.nansum((values - mean) ** 2, axis=0)
    std = np.sqrt(np.divide(squares, there - 1, out=np.zeros(len(steps)), where=there > 1))
    look = {**look, "marker": look["marker"] if len(steps) == 1 else "none"}
    (line,) = axes.plot(steps, mean, **look)
    if len(values) > 1:
        axes.fill_between(steps, mean - std, mean + std, color=look["color"], alpha=0.15, linewidth=0)
    return line
