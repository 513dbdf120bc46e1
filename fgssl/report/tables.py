"""Table of a sweep (table.csv), one row per cell and metric: statistics, missing runs and differences."""

import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from fgssl.errors import UserError
from fgssl.report.rows import AND, ORIGIN, Row
from fgssl.report.statistics import equivalence, estimate, holm, smallest_difference
from fgssl.settings.measure import Column
from fgssl.store.files import write_atomically
from fgssl.store.plan import PlanRecord

STATES = ("DONE", "RUNNING", "FAILED", "MISSING")
COLUMNS = (
    *("cell", "metric", "family", "mean", "std", "low", "high", "n", "missing", "states"),
    *("delta_baseline", "delta_std", "delta_low", "delta_high", "delta_n", "wins", "p", "p_holm", "p_equivalent"),
    *("smallest_difference", "decrease_percent", "decrease_std", "reference", "delta_reference"),
    *("unit", "lower_is_better", "note"),
)
_TEXTS = ("cell", "metric", "family", "states", "unit", "note")
_COUNTS = ("n", "missing", "delta_n", "wins")
PRIMARY, EXPLORATORY, SANITY = "primary", "exploratory", "sanity"


def tabulate(rows: Sequence[Row], plan: PlanRecord) -> pd.DataFrame:
    """Return a table with the columns `COLUMNS`: the cells in the plan's order, each with the plan's metrics.

    `mean`, `std` (n - 1 in its denominator) and the 95 % t interval `low` to `high` are taken over the `n` runs that
    are done. `missing` counts the others. Both are 0 if the cell does not measure the metric. All about the baseline is
    taken over the `delta_n` seeds that both have, and empty for the baseline itself: the mean difference, its standard
    deviation and 95 % t interval, the number of seeds at which the cell `wins`, `p` of the paired t test, and
    `smallest_difference`, which so many pairs find with a probability of 80 %. The cells' comparisons in the plan's
    primary metric are one family: `p_holm` is corrected for all of them. All other metrics are exploratory. Sanity rows
    are a `family` of their own, which is not compared with the baseline.
    `p_equivalent` belongs to the claim that the difference lies within ± the plan's `equivalent_within`.
    `decrease_percent` and `decrease_std` are those of 100 (baseline - value) / baseline over the same seeds, for counts
    alone (outliers, as Chamidullin reports them), and empty if a baseline is 0. `delta_reference` is mean - reference.
    `unit`, `lower_is_better` and `note` come from the metric's `Column`. Raise a `UserError` for an unknown metric.
    """
    columns = plan.columns
    if absent := [metric for metric in plan.metrics if metric not in columns]:
        raise UserError(
            f"metrics: no run of the sweep {plan.sweep} measures {', '.join(absent)}: choose among {', '.join(columns)}"
        )
    of_cells = _by_cell(rows, plan)
    entries = []
    baseline = None if plan.baseline is None else of_cells[plan.baseline]
    for cell in plan.cells:
        runs = of_cells[cell.cell]
        counts = Counter(row["state"] for row in runs)
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
        asked = {column.name for column in cell.columns}
        for metric in plan.metrics:
            values = _by_seed(runs, metric)
            apart = cell.sanity or cell.cell == plan.baseline
            others = None if apart or baseline is None else _by_seed(baseline, metric)
            published = plan.reference.get(cell.cell, {}).get(metric)
            entries.append(
                {
                    "cell": cell.cell,
                    "metric": metric,
                    "family": SANITY if cell.sanity else PRIMARY if metric == plan.primary else EXPLORATORY,
                    "missing": len(runs) - len(values) if metric in asked else 0,
                    "states": states,
                    **_statistics(values, published, columns[metric]),
                    **_difference(values, others, columns[metric], plan, metric == plan.primary),
                }
            )
    _correct([entry for entry in entries if entry["family"] == PRIMARY and entry["cell"] != plan.baseline])
    table = pd.DataFrame(entries, columns=list(COLUMNS))
    types = {**dict.fromkeys(_COUNTS, "int64"), "lower_is_better": "bool"}
    return table.astype({name: types.get(name, "float64") for name in COLUMNS if name not in _TEXTS})


def _by_cell(rows: Sequence[Row], plan: PlanRecord) -> dict[str, list[Row]]:
    of_cells: dict[str, list[Row]] = {cell.cell: [] for cell in plan.cells}
    for row in rows:
        of_cells[row["cell"]].append(row)
    return of_cells


def _by_seed(runs: Sequence[Row], metric: str) -> dict[int, float]:
    """Return the metric of the runs that are done, by seed."""
    values = {run["seed"]: run[metric] for run in runs if run["state"] == "DONE"}
    return {seed: float(value) for seed, value in values.items() if not pd.isna(value)}


def _statistics(values: Mapping[int, float], published: float | None, column: Column) -> Row:
    """Return the entries that follow from the values of a cell, by seed, and the published value."""
    found = estimate(list(values.values()))
    return {
        "mean": found.mean,
        "std": found.std,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "reference": published,
        "delta_reference": None if published is None else found.mean - published,
        "unit": column.unit,
        "lower_is_better": column.lower_is_better,
        "note": column.note,
    }


def _difference(
    values: Mapping[int, float], others: Mapping[int, float] | None, column: Column, plan: PlanRecord, primary: bool
) -> Row:
    """Return the entries about the difference from `others`, the baseline's values; None means that there are none."""
    if others is None:
        return {"delta_n": 0, "wins": 0}
    seeds = [seed for seed in values if seed in others]
    differences = [values[seed] - others[seed] for seed in seeds]
    found = estimate(differences)
    within = plan.equivalent_within if primary else None
    entries: Row = {
        "delta_baseline": found.mean,
        "delta_std": found.std,
        "delta_low": found.low,
        "delta_high": found.high,
        "delta_n": found.n,
        "wins": sum(difference < 0 if column.lower_is_better else difference > 0 for difference in differences),
        "p": found.p,
        "p_equivalent": None if within is None else equivalence(differences, within),
        "smallest_difference": smallest_difference(found.std, found.n, plan.comparisons if primary else 1),
    }
    if column.unit == "count" and all(others[seed] for seed in seeds):
        decreases = estimate([-100 * (values[seed] - others[seed]) / others[seed] for seed in seeds])
        entries |= {"decrease_percent": decreases.mean, "decrease_std": decreases.std}
    return entries


def _correct(family: Sequence[Row]) -> None:
    """Add `p_holm` to the entries of a family; those whose cell does not measure the metric are no part of it."""
    asked = [entry for entry in family if entry["n"] + entry["missing"]]
    for entry, adjusted in zip(asked, holm([entry.get("p", math.nan) for entry in asked]), strict=True):
        entry["p_holm"] = adjusted


def warnings(rows: Sequence[Row]) -> list[str]:
    """Return a line for each cell whose done runs differ in code, data or machine, or for cells that differ."""
    lines = []
    done = [row for row in rows if row["state"] == "DONE"]
    for column, what in ORIGIN.items():
        of_cells: dict[str, dict[str, list[int]]] = {}
        mixed = {row["cell"] for row in done if AND in str(row[column])}
        for row, text in zip(done, _shown(done, column), strict=True):
            of_cells.setdefault(row["cell"], {}).setdefault(text, []).append(row["seed"])
        cells_of: dict[str, list[str]] = {}
        for cell, seeds_of in of_cells.items():
            if len(seeds_of) > 1 or cell in mixed:
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
    of_cells = _by_cell(rows, plan)
    for cell in plan.cells:
        asked = {column.name for column in cell.columns}
        of_cell = of_cells[cell.cell]
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
    done = Counter(row["cell"] for row in rows if row["state"] == "DONE")
    lines = []
    for text, with_values in found.items():
        spans = [_span(values) for values in zip(*(values for _, values in with_values), strict=True)]
        seeds_of: dict[str, list[int]] = {}
        for row, _ in with_values:
            seeds_of.setdefault(row["cell"], []).append(row["seed"])
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
