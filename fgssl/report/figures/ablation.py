"""Ablation curves: the primary measure against a setting that an arm varies (*Synthesized Pairs*, Figs. 5 and 6)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from fgssl.report.figures import style
from fgssl.report.figures.records import NotDrawnError, compared_metric
from fgssl.report.layout import Entry
from fgssl.store.plan import PlannedCell, PlanRecord

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = ("plan", "table")

WIDE_SPREAD = 8
"""Ratio of the largest to the smallest value from which the axis is logarithmic."""


@style.house_style
def draw(plan: PlanRecord, table: "pd.DataFrame") -> "Figure":
    """Draw a panel for each varied setting, with the baseline as a band, and published values as stars."""
    metric = compared_metric(plan)
    entries = {entry["cell"]: entry for entry in table[table["metric"] == metric].to_dict("records")}
    curves = {key: found for key in plan.grid_keys if (found := _curves(plan, key))}
    if not curves:
        raise NotDrawnError("no arm of the sweep varies a setting over two values or more")
    if all(entries[cell.cell]["n"] == 0 for of_key in curves.values() for line in of_key.values() for cell in line):
        raise NotDrawnError(f"no run of the varied cells is done with {metric}")
    columns = min(len(curves), 3)
    rows = math.ceil(len(curves) / columns)
    width = style.ONE_COLUMN if columns == 1 else style.TWO_COLUMNS
    figure, grid = style.panels(rows, columns, width=width, panel_height=2.0, sharey=True)
    handles: dict[str, Any] = {}
    arms = style.looks(name for of_key in curves.values() for name in of_key)
    for axes, (key, of_key) in zip(grid.flat, curves.items(), strict=False):
        _panel(axes, key, of_key, entries, arms, handles)
        if plan.baseline is not None and entries[plan.baseline]["n"]:
            _band(axes, plan.baseline, entries[plan.baseline], handles)
    for axes in grid.flat[len(curves) :]:
        axes.remove()
    column = plan.columns[metric]
    for axes in grid[:, 0]:
        axes.set_ylabel(style.axis_label(metric, column.unit, column.lower_is_better))
    ordered = {label: handles[label] for label in sorted(handles, key=lambda label: label not in arms)}
    return style.finish(figure, [ordered], _note(curves, entries))


def _note(curves: Mapping[str, Mapping[str, Sequence[PlannedCell]]], entries: Mapping[str, Entry]) -> str:
    cells = dict.fromkeys(cell.cell for of_key in curves.values() for line in of_key.values() for cell in line)
    counts = [entries[cell]["n"] for cell in cells if entries[cell]["n"]]
    seeds = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    several = f"Mean and 95 % t interval over {seeds} seeds." if max(counts) > 1 else "One seed."
    absent = [cell for cell in cells if not entries[cell]["n"]]
    return f"{several} Not done: {', '.join(absent)}." if absent else several


def _curves(plan: PlanRecord, key: str) -> dict[str, list[PlannedCell]]:
    """Return the cells of each curve over a setting, by label: one per arm and choice of its other settings."""
    found: dict[str, list[PlannedCell]] = {}
    for cell in plan.cells:
        if key in cell.grid:
            others = [
                f"{other.rpartition('.')[2]}={_text(value)}" for other, value in cell.grid.items() if other != key
            ]
            found.setdefault(" ".join([cell.arm, *others]), []).append(cell)
    return {label: cells for label, cells in found.items() if len(cells) > 1}


@dataclass(frozen=True)
class Positions:
    """Places of a setting's values on the x axis."""

    at: dict[str, float]
    """Position by the text of a value."""
    connected: bool
    """Whether the values are numbers, so that a line between them means something."""


def positions(values: Sequence[JsonValue]) -> Positions:
    """Return linear positions of numbers, logarithmic ones if they are spread, and numbers 0, 1, 2, ... of others.

    On a logarithmic axis 0 stands one step before the smallest value and infinity one step after the largest.
    """
    numbers = {_text(value): _number(value) for value in values}
    known = {text: number for text, number in numbers.items() if number is not None}
    if len(known) < len(numbers):
        return Positions({text: float(place) for place, text in enumerate(numbers)}, connected=False)
    finite = sorted(number for number in known.values() if 0 < number < math.inf)
    endless = any(math.isinf(number) for number in known.values())
    spread = len(finite) > 1 and finite[-1] / finite[0] >= WIDE_SPREAD
    if min(known.values()) < 0 or not (spread or (endless and finite)):
        return Positions(known if not endless else _in_order(known), connected=True)
    step = math.log10(finite[-1] / finite[0]) / (len(finite) - 1) if len(finite) > 1 else 1.0
    first, last = math.log10(finite[0]) - step, math.log10(finite[-1]) + step
    at = {text: first if not x else last if math.isinf(x) else math.log10(x) for text, x in known.items()}
    return Positions(at, connected=True)


def _in_order(known: Mapping[str, float]) -> dict[str, float]:
    return {text: float(place) for place, text in enumerate(sorted(known, key=known.__getitem__))}


def _number(value: JsonValue) -> float | None:
    if isinstance(value, str) and value.lstrip(".+").lower() in ("inf", "infinity"):
        return math.inf
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: JsonValue) -> str:
    number = _number(value)
    if number is not None:
        return "∞" if math.isinf(number) else f"{number:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _panel(
    axes: Any,
    key: str,
    curves: Mapping[str, Sequence[PlannedCell]],
    entries: Mapping[str, Entry],
    arms: Mapping[str, Mapping[str, Any]],
    handles: dict[str, Any],
) -> None:
    from matplotlib.lines import Line2D

    places = positions([cell.grid[key] for cells in curves.values() for cell in cells])
    extent = max(places.at.values()) - min(places.at.values())
    for number, (label, cells) in enumerate(curves.items()):
        shift = (number - (len(curves) - 1) / 2) * 0.02 * extent
        shown = sorted((cell for cell in cells if entries[cell.cell]["n"]), key=lambda c: places.at[_text(c.grid[key])])
        x = [places.at[_text(cell.grid[key])] + shift for cell in shown]
        means = [entries[cell.cell]["mean"] for cell in shown]
        # nan, of one seed, draws no bar
        ends = [
            [abs(entries[cell.cell][end] - entries[cell.cell]["mean"]) for cell in shown] for end in ("low", "high")
        ]
        look = {**arms[label], **({} if places.connected else {"linestyle": "none"})}
        handles[label] = axes.errorbar(x, means, ends, capsize=2, elinewidth=0.8, capthick=0.8, **look)
        published = [(places.at[_text(c.grid[key])] + shift, entries[c.cell]["reference"]) for c in cells]
        published = [(at, value) for at, value in published if not math.isnan(value)]
        if published:
            line = "none" if not places.connected else (0, (1, 1.5))
            star: dict[str, Any] = {"marker": "*", "markersize": 5, "markerfacecolor": "none", "markeredgewidth": 0.8}
            axes.plot(*zip(*published, strict=True), color=look["color"], linestyle=line, linewidth=0.8, **star)
            handles.setdefault("published", Line2D([], [], color=style.GRAY, linestyle="none", **star))
    texts = dict(sorted(places.at.items(), key=lambda item: item[1]))
    long = any(len(text) > 6 for text in texts)
    axes.set_xticks(
        list(texts.values()),
        [style.shortened(text, 0.9, style.SMALL_POINTS) for text in texts],
        **({"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}),
    )
    margin = 0.06 * extent or 0.5
    axes.set_xlim(min(texts.values()) - margin, max(texts.values()) + margin)
    axes.set_xlabel(style.plain(key.rpartition(".")[2]))


def _band(axes: Any, baseline: str, entry: Entry, handles: dict[str, Any]) -> None:
    look = {"color": style.GRAY, "linewidth": 0.9, "linestyle": (0, (3, 2)), "zorder": 1}
    handles[f"{baseline} (baseline)"] = axes.axhline(entry["mean"], **look)
    if not math.isnan(entry["low"]):
        axes.axhspan(entry["low"], entry["high"], color=style.GRAY, alpha=0.15, linewidth=0, zorder=0)
    if not math.isnan(entry["reference"]):
        handles["baseline, published"] = axes.axhline(entry["reference"], **{**look, "linestyle": (0, (1, 2))})
