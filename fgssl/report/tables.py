"""Table of a sweep (table.csv), one row per cell and metric: statistics, missing runs and differences."""

import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fgssl.errors import UserError
from fgssl.report.rows import AND, ORIGIN, Row
from fgssl.settings.measure import Column
from fgssl.store.files import write_atomically
from fgssl.store.plan import PlanRecord

STATES = ("DONE", "RUNNING", "FAILED", "MISSING")
COLUMNS = (
    *("cell", "metric", "mean", "std", "n", "missing", "states", "delta_baseline", "delta_std", "delta_n"),
    *("decrease_percent", "decrease_std", "reference", "delta_reference", "unit", "lower_is_better", "note"),
)
_TEXTS = ("cell", "metric", "states", "unit", "note")


def tabulate(rows: Sequence[Row], plan: PlanRecord) -> pd.DataFrame:
    """Return a table with the columns `COLUMNS`: the cells in the plan's order, each with the plan's metrics.

    `mean` and `std` (ddof 1, empty for n = 1) are taken over the `n` runs that are done. `missing` counts the others.
    Both numbers are 0 if the cell does not measure the metric. `delta_baseline` and `delta_std` are mean and standard
    deviation of the difference from the baseline over the `delta_n` seeds that both have; the baseline has none.
    `decrease_percent` and `decrease_std` are those of 100 (baseline - value) / baseline over the same seeds, for counts
    alone (outliers, as Chamidullin reports them), and empty if a baseline is 0. `delta_reference` is mean - reference.
    `unit`, `lower_is_better` and `note` come from the metric's `Column`. Raise a `UserError` for an unknown metric.
    """
    columns = plan.columns
    known = list(columns)
    frame = pd.DataFrame(rows, columns=["cell", "seed", "state", *known])
    if absent := [metric for metric in plan.metrics if metric not in known]:
        raise UserError(
            f"metrics: no run of the sweep {plan.sweep} measures {', '.join(absent)}: choose among {', '.join(known)}"
        )
    of_cells = {str(cell): runs for cell, runs in frame.groupby("cell")}
    done = {cell: runs[runs["state"] == "DONE"].set_index("seed")[known] for cell, runs in of_cells.items()}
    none = frame[:0].set_index("seed")[known]

    def by_seed(cell: str, metric: str) -> "pd.Series[float]":
        """Return the metric of the cell's runs that are done, by seed."""
        return done.get(cell, none)[metric].astype("float64").dropna()

    entries = []
    baseline = {} if plan.baseline is None else {metric: by_seed(plan.baseline, metric) for metric in plan.metrics}
    for cell in plan.cells:
        runs = of_cells.get(cell.cell, frame[:0])
        counts = runs["state"].value_counts(sort=False)
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
        asked = {column.name for column in cell.columns}
        for metric in plan.metrics:
            values = by_seed(cell.cell, metric)
            missing = len(runs) - len(values) if metric in asked else 0
            others = None if cell.cell == plan.baseline else baseline.get(metric)
            published = plan.reference.get(cell.cell, {}).get(metric)
            entry = {"cell": cell.cell, "metric": metric, "missing": missing, "states": states}
            entries.append(entry | _statistics(values, others, published, columns[metric]))
    table = pd.DataFrame(entries, columns=list(COLUMNS))
    types = {**dict.fromkeys(["n", "missing", "delta_n"], "int64"), "lower_is_better": "bool"}
    return table.astype({name: types.get(name, "float64") for name in COLUMNS if name not in _TEXTS})


def _statistics(
    values: "pd.Series[float]", others: "pd.Series[float] | None", published: float | None, column: Column
) -> Row:
    """Return the entries that follow from the values of a cell, those of the baseline and the published value."""
    return {
        "mean": values.mean(),
        "std": values.std(ddof=1),
        "n": len(values),
        **_difference(values, others, column),
        "reference": published,
        "delta_reference": None if published is None else values.mean() - published,
        "unit": column.unit,
        "lower_is_better": column.lower_is_better,
        "note": column.note,
    }


def _difference(values: "pd.Series[float]", others: "pd.Series[float] | None", column: Column) -> dict[str, Any]:
    """Return the entries about the difference from `others`, the baseline's values; None means that there are none."""
    if others is None:
        return {"delta_n": 0}
    seeds = values.index.intersection(others.index)
    differences = values[seeds] - others[seeds]
    decreases = -100 * differences / others[seeds]
    defined = column.unit == "count" and bool((others[seeds] != 0).all())
    return {
        "delta_baseline": differences.mean(),
        "delta_std": differences.std(ddof=1),
        "delta_n": len(differences),
        "decrease_percent": decreases.mean() if defined else None,
        "decrease_std": decreases.std(ddof=1) if defined else None,
    }


def warnings(rows: Sequence[Row]) -> list[str]:
    """Return a line for each cell whose done runs differ in code, data or machine, or for cells that differ."""
    lines = []
    done = [row for row in rows if row["state"] == "DONE"]
    for column, what in ORIGIN.items():
        shown = _shown(done, column)
        cells_of: dict[str, list[str]] = {}
        for cell in dict.fromkeys(row["cell"] for row in done):
            seeds_of: dict[str, list[int]] = {}
            for row, text in zip(done, shown, strict=True):
                if row["cell"] == cell:
                    seeds_of.setdefault(text, []).append(row["seed"])
            if len(seeds_of) > 1 or any(AND in str(row[column]) for row in done if row["cell"] == cell):
                each = "; ".join(f"{text} ({_seeds(seeds)})" for text, seeds in seeds_of.items())
                lines.append(f"{cell} averages runs of different {what}: {each}")
            else:
                cells_of.setdefault(next(iter(seeds_of)), []).append(cell)
        if len(cells_of) > 1:
            each = "; ".join(f"{text} ({_some(cells)})" for text, cells in cells_of.items())
            lines.append(f"the cells come from different {what}: {each}")
    return [*lines, _EQUAL] if lines else []


_EQUAL = (
    "for equal ones delete the folders of the other runs, runs/*-FINGERPRINT by column fingerprint of rows.csv, and "
    "give the command of the sweep again"
)
_LISTED = 4
_MEASURED = re.compile(r"(?<!learning rate )\b\d+\.\d\d\b")
"""Measure in a remark, which has two decimals. A learning rate is none: the remark's words depend on its value."""


def _some(cells: Sequence[str]) -> str:
    more = len(cells) - _LISTED
    return ", ".join([*cells[:_LISTED], *([f"and {more} more"] if more > 0 else [])])


def _shown(rows: Sequence[Row], column: str) -> list[str]:
    """Return a column as text: data versions by their first digits, and only those library versions that differ."""
    texts = [str(row[column]) for row in rows]
    if column == "data_version":
        return [AND.join(version[:12] for version in text.split(AND)) for text in texts]
    if column == "versions" and texts:
        parts = [text.split(", ") for text in texts]
        same = set.intersection(*map(set, parts))
        return [", ".join(part for part in of_row if part not in same) for of_row in parts]
    return texts


def absences(rows: Sequence[Row], plan: PlanRecord) -> dict[str, str]:
    """Return a line for each cell with missing values, by cell: the seeds and the reasons."""
    lines = {}
    for cell in plan.cells:
        asked = {column.name for column in cell.columns}
        of_cell = [row for row in rows if row["cell"] == cell.cell]
        why: dict[str, list[int]] = {}
        for row in of_cell:
            if row["state"] != "DONE":
                why.setdefault(f"{row['state']}: {row['reason']}", []).append(row["seed"])
            elif unmeasured := [name for name in plan.metrics if name in asked and pd.isna(row[name])]:
                why.setdefault(f"DONE, but without {', '.join(unmeasured)}", []).append(row["seed"])
        if why:
            there = len(of_cell) - sum(map(len, why.values()))
            parts = "; ".join(f"{_seeds(seeds)} {text}" for text, seeds in why.items())
            lines[cell.cell] = f"{there} of {len(of_cell)} seeds: {parts}"
    return lines


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return a line for each remark on the measures of runs that are done, with the cells and seeds that have it.

    Remarks that differ in their measures only are one line, with the smallest and the largest value of each. Seeds are
    left out if all done runs of a cell have the remark.
    """
    found: dict[str, list[tuple[Row, list[float]]]] = {}
    for row in rows:
        for remark in (row["remarks"] or "").splitlines():
            values = [float(value) for value in _MEASURED.findall(remark)]
            text = _MEASURED.sub("{}", remark.replace("{", "{{").replace("}", "}}"))
            found.setdefault(text, []).append((row, values))
    lines = []
    for text, with_values in found.items():
        spans = [_span(values) for values in zip(*(values for _, values in with_values), strict=True)]
        seeds_of: dict[str, list[int]] = {}
        for row, _ in with_values:
            seeds_of.setdefault(row["cell"], []).append(row["seed"])
        done = Counter(row["cell"] for row in rows if row["state"] == "DONE")
        cells = [f"{cell} {_seeds(seeds)}" if len(seeds) < done[cell] else cell for cell, seeds in seeds_of.items()]
        lines.append(f"{text.format(*spans)} ({_some(cells)})")
    return lines


def _span(values: Sequence[float]) -> str:
    lowest, highest = f"{min(values):.2f}", f"{max(values):.2f}"
    return lowest if lowest == highest else f"{lowest} to {highest}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Write the table as CSV, atomically, with all digits of a number."""
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_atomically(file, text.getvalue())
