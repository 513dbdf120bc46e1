"""Label-fraction curves: accuracy of the linear probe against the share of the training labels."""

import re
from typing import TYPE_CHECKING, Any

from fgssl.report.figures import style
from fgssl.report.figures.records import NotDrawnError
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = ("plan", "table")


@style.house_style
def draw(plan: PlanRecord, table: "pd.DataFrame") -> "Figure":
    """Draw a line for each cell, and published values as stars."""
    found = {metric: match for metric in plan.metrics if (match := re.fullmatch(r"linear_(\d+(?:\.\d+)?)", metric))}
    percents = {metric: float(match[1]) for metric, match in found.items()}
    if len(percents) < 2:
        raise NotDrawnError("the table shows the linear probe at one share of the labels at most")
    shown = table[table["metric"].isin(list(percents)) & (table["n"] > 0)]
    if shown.empty:
        raise NotDrawnError("no run is done with the linear probe")
    order = sorted(percents, key=percents.__getitem__)
    cells = [cell.cell for cell in plan.cells if cell.cell in set(shown["cell"])]
    width = style.ONE_COLUMN if len(cells) <= 8 else style.TWO_COLUMNS
    figure, grid = style.panels(1, 1, width=width, panel_height=2.2)
    axes = grid[0, 0]
    handles: dict[str, Any] = {}
    looks = style.looks(cell.cell for cell in plan.cells)
    for number, cell in enumerate(cells):
        entries = shown[shown["cell"] == cell].set_index("metric").reindex(order)
        x = [place + (number - (len(cells) - 1) / 2) * min(0.06, 0.5 / len(cells)) for place in range(len(order))]
        ends = [entries["mean"] - entries["low"], entries["high"] - entries["mean"]]
        handles[cell] = axes.errorbar(
            x, entries["mean"], ends, capsize=1.5, elinewidth=0.7, capthick=0.7, **looks[cell]
        )
        if entries["reference"].notna().any():
            mark = axes.scatter(
                x, entries["reference"], s=22, facecolors="none", edgecolors=looks[cell]["color"], marker="*"
            )
            handles.setdefault("published", mark)
    if "published" in handles:
        handles["published"] = handles.pop("published")  # last
    axes.set_xticks(range(len(order)), [f"{percents[metric]:g}" for metric in order])
    axes.set_xlim(-0.35, len(order) - 0.65)
    axes.set_xlabel("labels of the training images (%)")
    axes.set_ylabel("linear probe (%)")
    several = shown["n"].max() > 1
    return style.finish(figure, [handles], "Mean and 95 % t interval over the seeds." if several else "One seed.")
