"""Table for readers, one row per cell and one column per metric."""

import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pandas as pd

from fgssl.report.rows import Row
from fgssl.report.statistics import ALPHA
from fgssl.report.tables import absences, remarks, warnings
from fgssl.settings.measure import Column
from fgssl.store.plan import PlannedCell, PlanRecord

MARKER = "†"
"""Mark of a number that lacks runs; a note under the table gives the reason."""
OTHER_PROTOCOL = "‡"
"""Mark of a published number that was measured in another way than the number of this table."""
EMPTY = "–"
"""Text of a number that does not exist."""
Entry: TypeAlias = dict[Hashable, Any]
"""Line of table.csv, by column."""
Position: TypeAlias = tuple[int, int]
"""Line and column of an entry, from 0."""


@dataclass(frozen=True)
class Block:
    """Table with its caption. Several of them stand under each other."""

    caption: str
    header: list[str]
    lines: list[list[str]]
    bold: Set[Position] = frozenset()
    """Entries that are best by the test of the primary measure."""
    underlined: Set[Position] = frozenset()
    """Entries that have the best or the second best mean of their column, but are not bold."""


@dataclass(frozen=True)
class Layout:
    """Title, tables and notes of a sweep, as text."""

    title: str
    blocks: list[Block]
    notes: list[str]


def lay_out(table: pd.DataFrame, rows: Sequence[Row], plan: PlanRecord) -> Layout:
    """Lay out the table of `tabulate`: measures, differences from the baseline, published values, and notes.

    A metric that a cell does not measure is left empty. Only one that is missing is marked.
    """
    shown = [plan.columns[metric] for metric in plan.metrics]
    by_cell: dict[str, dict[str, Entry]] = {cell.cell: {} for cell in plan.cells}
    for entry in table.to_dict("records"):
        by_cell[entry["cell"]][entry["metric"]] = entry

    def block(
        caption: str, text: Callable[[Entry], str], cells: Sequence[str], metrics: Sequence[str] = plan.metrics
    ) -> Block:
        lines = [[cell, *(text(by_cell[cell][metric]) for metric in metrics)] for cell in cells]
        return Block(caption, ["cell", *metrics], lines)

    def counted(caption: str, cells: Sequence[PlannedCell]) -> Block:
        measured = block(caption, _measure, [cell.cell for cell in cells])
        lines = [[*line, _seed_count(by_cell[line[0]])] for line in measured.lines]
        return Block(caption, [*measured.header, "seeds"], lines)

    bold, underlined = _emphasis([[by_cell[cell.cell][metric] for metric in plan.metrics] for cell in plan.of_arms])
    blocks = [replace(counted(_caption(plan.dataset, shown), plan.of_arms), bold=bold, underlined=underlined)]
    if sanity := [cell for cell in plan.cells if cell.sanity]:
        blocks.append(counted("Sanity rows, without a method, in the same units", sanity))
    blocks += _comparisons(plan, by_cell, shown, block)
    published = [cell for cell in by_cell if any(not _absent(entry["reference"]) for entry in by_cell[cell].values())]
    others: list[str] = []
    if published:
        caption = "Published value, and the difference from it (this table minus published)"
        recipes = {cell.cell: _other_recipe(cell) for cell in plan.cells}
        blocks.append(block(caption, lambda entry: _published(entry, recipes[entry["cell"]]), published))
        others = sorted({recipe for cell in published if (recipe := recipes[cell])})

    notes = [
        *_unit_notes(shown),
        *_reading(plan, by_cell, bold, underlined),
        *map(_PROTOCOL.format, others),
        *(f"{MARKER} {cell}: {text}" for cell, text in absences(rows, plan).items()),
        *remarks(rows),
        *(f"Warning: {line}" for line in warnings(rows)),
    ]
    preset = f", preset {plan.preset}" if plan.preset else ""
    return Layout(f"{plan.title} ({plan.sweep}{preset})" if plan.title else f"{plan.sweep}{preset}", blocks, notes)


def _comparisons(
    plan: PlanRecord, by_cell: Mapping[str, Mapping[str, Entry]], shown: Sequence[Column], block: Callable[..., Block]
) -> Iterator[Block]:
    """Yield the tables of the differences from the baseline, if there is one and another cell."""
    others = [cell.cell for cell in plan.of_arms if cell.cell != plan.baseline]
    if plan.baseline is None or not others:
        return
    of_baseline = {metric for metric, entry in by_cell[plan.baseline].items() if _asked_for(entry)}

    def paired(text: Callable[[Entry], str]) -> Callable[[Entry], str]:
        return lambda entry: text(entry) if _asked_for(entry) and entry["metric"] in of_baseline else EMPTY

    if plan.primary in of_baseline:
        yield _tested(plan, [by_cell[cell][plan.primary] for cell in others])
    yield block(f"Difference from {plan.baseline} (cell minus baseline), paired by seed", paired(_difference), others)
    if counts := [column.name for column in shown if column.unit == "count" and column.name in of_baseline]:
        caption = f"Decrease relative to {plan.baseline}, percent, paired by seed"
        yield block(caption, paired(_decrease), others, counts)


def _tested(plan: PlanRecord, entries: Sequence[Entry]) -> Block:
    """Return the tests of the primary measure: what each cell adds to the baseline, and whether n seeds show it."""
    header = ["cell", "difference", "95 % interval", "p", "p (Holm)", "wins", "could show"]
    header += ["p (equivalent)"] * (plan.equivalent_within is not None)

    def line(entry: Entry) -> list[str]:
        if not _asked_for(entry):
            return [entry["cell"], *[EMPTY] * (len(header) - 1)]
        low, high = (_number(entry, key, "+") for key in ("delta_low", "delta_high"))
        found = [
            _difference(entry),
            EMPTY if _absent(entry["delta_low"]) else f"{low} to {high}",
            probability(entry["p"]),
            probability(entry["p_holm"]),
            f"{entry['wins']} of {entry['delta_n']}" if entry["delta_n"] else EMPTY,
            EMPTY if _absent(entry["smallest_difference"]) else _number(entry, "smallest_difference"),
            probability(entry["p_equivalent"]),
        ]
        return [entry["cell"], *found[: len(header) - 1]]

    caption = f"{plan.primary}, the primary measure: difference from {plan.baseline}, paired by seed and tested"
    return Block(caption, header, [line(entry) for entry in entries])


def probability(p: float) -> str:
    """Return a p value as text."""
    return EMPTY if _absent(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _emphasis(entries: Sequence[Sequence[Entry]]) -> tuple[Set[Position], Set[Position]]:
    """Return which entries, by line and column, are bold and which are underlined.

    Bold is the best mean of the primary measure, if Holm's p value and the interval carry its difference from the
    baseline. The best two means of a column are underlined otherwise.
    """
    bold, underlined = set[Position](), set[Position]()
    for column, of_column in enumerate(zip(*entries, strict=True), 1):
        worse = -1 if of_column[0]["lower_is_better"] else 1
        means = sorted({worse * entry["mean"] for entry in of_column if entry["n"]}, reverse=True)
        for line, entry in enumerate(of_column):
            if len(means) > 1 and worse * entry["mean"] in means[:2]:
                carried = entry["p_holm"] < ALPHA and worse * entry["delta_baseline"] > 0
                (bold if carried and worse * entry["mean"] == means[0] else underlined).add((line, column))
    return bold, underlined


def _reading(
    plan: PlanRecord,
    by_cell: Mapping[str, Mapping[str, Entry]],
    bold: Collection[Position],
    underlined: Collection[Position],
) -> list[str]:
    """Return how to read the tests and the emphasis."""
    notes = []
    if bold or underlined:
        best = "" if plan.primary is None else f"bold: best mean of {plan.primary}, if its p (Holm) < 0.05; "
        notes.append(f"{best}underlined: {'other ' if best else ''}best and second best means")
    if plan.primary is not None and plan.baseline is not None:
        notes.append(
            f"p: two-sided paired t test; Holm: corrected for all {plan.comparisons} comparisons of {plan.primary}; "
            "the intervals are not corrected"
        )
        chance = f"of {plan.primary} that as many pairs would find with a chance of 80 %"
        span = _could_show([entries[plan.primary] for entries in by_cell.values()])
        notes.append(f"could show: smallest difference {chance}{span}")
        if plan.equivalent_within is not None:
            notes.append(
                f"p (equivalent): two one-sided t tests that the difference lies within ±{plan.equivalent_within:g}, "
                "not corrected for the number of comparisons"
            )
        notes.append("all measures but the primary one are exploratory: their differences are not tested")
    return notes


def _could_show(entries: Sequence[Entry]) -> str:
    """Return the span of the smallest differences that the cells could show; empty if none has two pairs."""
    tested = [entry for entry in entries if not _absent(entry["smallest_difference"])]
    if not tested:
        return ""
    in_order = sorted(tested, key=lambda entry: entry["smallest_difference"])
    ends = dict.fromkeys(_number(entry, "smallest_difference") for entry in (in_order[0], in_order[-1]))
    return f", here {' to '.join(ends)}"


def _absent(value: float) -> bool:
    return math.isnan(value)


def _asked_for(entry: Entry) -> bool:
    """Return whether the cell's settings contain the metric."""
    return bool(entry["n"] + entry["missing"])


def _caption(dataset: str, shown: Sequence[Column]) -> str:
    mean = f"ean ± standard deviation over the seeds; dataset {dataset}"
    return f"Percent, m{mean}" if all(column.unit == "percent" for column in shown) else f"M{mean}"


def _unit_notes(shown: Sequence[Column]) -> list[str]:
    """Return a line for each note or unit, with the columns that share it; no units if all are percent."""
    units_differ = any(column.unit != "percent" for column in shown)
    names: dict[str, list[str]] = {}
    for column in sorted(shown, key=lambda column: bool(column.note)):
        unit = column.unit if units_differ else ""
        direction = "lower is better" if column.lower_is_better else ""
        text = "; ".join(filter(None, [column.note or unit, direction]))
        names.setdefault(text, []).append(column.name)
    return [f"{', '.join(metrics)}: {text}" for text, metrics in names.items() if text]


def _seed_count(entries: dict[str, Entry]) -> str:
    """Return `2/3` if the metric with the fewest values has 2 of the 3 planned."""
    fewest = min(filter(_asked_for, entries.values()), key=lambda entry: entry["n"], default=None)
    if fewest is None:
        return EMPTY
    return f"{fewest['n']}/{fewest['n'] + fewest['missing']}"


def _measure(entry: Entry) -> str:
    if not _asked_for(entry):
        return EMPTY
    if not entry["n"]:
        return f"{EMPTY} {MARKER}"
    marker = f" {MARKER}" if entry["missing"] else ""
    return f"{_number(entry, 'mean')}{_spread(entry, 'std')}{marker}"


def _difference(entry: Entry) -> str:
    if not entry["delta_n"]:
        return f"{EMPTY} {MARKER}"
    return f"{_number(entry, 'delta_baseline', '+')}{_spread(entry, 'delta_std')}{_fewer_pairs(entry)}"


def _decrease(entry: Entry) -> str:
    if not entry["delta_n"]:
        return f"{EMPTY} {MARKER}"
    if _absent(entry["decrease_percent"]):  # the baseline is 0
        return EMPTY
    return f"{_number(entry, 'decrease_percent')}{_spread(entry, 'decrease_std')}{_fewer_pairs(entry)}"


def _fewer_pairs(entry: Entry) -> str:
    """Return the number of pairs if it is smaller than planned; the missing run may be the baseline's."""
    fewer = entry["delta_n"] < entry["n"] + entry["missing"]
    return f" (n = {entry['delta_n']}) {MARKER}" if fewer else ""


_PROTOCOL = (
    f"{OTHER_PROTOCOL} published with the linear probe of MoCo (evaluation.linear.recipe: fixed), measured here with "
    "recipe: {}, which is part of the difference"
)


def _other_recipe(cell: PlannedCell) -> str:
    """Return the recipe of a cell's linear probe if it is not that of the published tables, or nothing."""
    evaluation = cell.runs[0].config.evaluation
    probe = None if evaluation is None else evaluation.linear
    return "" if probe is None or probe.recipe == "fixed" else str(probe.recipe)


def _published(entry: Entry, other_recipe: str) -> str:
    if _absent(entry["reference"]):
        return EMPTY
    difference = EMPTY if _absent(entry["delta_reference"]) else _number(entry, "delta_reference", "+")
    marker = f" {OTHER_PROTOCOL}" if other_recipe and entry["metric"].startswith("linear_") else ""
    return f"{_number(entry, 'reference')} ({difference}){marker}"


def _number(entry: Entry, column: str, sign: str = "") -> str:
    decimals = 1 if entry["unit"] == "count" else 2
    return f"{entry[column]:{sign}z.{decimals}f}"


def _spread(entry: Entry, column: str) -> str:
    return "" if _absent(entry[column]) else f" ± {_number(entry, column)}"


def emphasized(
    block: Block, bold: Callable[[str], str], underline: Callable[[str], str], escape: Callable[[str], str] = str
) -> list[list[str]]:
    """Return the block's lines, escaped, with its emphasis as markup."""

    def text(line: int, column: int) -> str:
        escaped = escape(block.lines[line][column])
        if (line, column) in block.bold:
            return bold(escaped)
        return underline(escaped) if (line, column) in block.underlined else escaped

    return [[text(line, column) for column in range(len(block.header))] for line in range(len(block.lines))]
