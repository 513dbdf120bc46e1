"""Tables of test images: their CSV files, and what the page shows of them."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fgssl.report.figures.records import NotDrawnError, Records
from fgssl.report.images import MetricOutcomes, class_table, flipped_table, image_table
from fgssl.report.layout import EMPTY, probability
from fgssl.report.page.content import Entry, Table
from fgssl.report.tables import write_table

FILES = {"images.csv": image_table, "classes.csv": class_table, "flipped.csv": flipped_table}
_CLASSES = {
    "class": "class",
    "cell": "cell",
    "images": "images",
    "baseline": "baseline",
    "mean": "here",
    "delta_baseline": "difference",
}
_FLIPPED = {
    "image": "image",
    "class": "class",
    "cell": "cell",
    "right": "seeds right",
    "right_baseline": "seeds right in baseline",
    "seeds": "seeds",
}
MOST_LINES = 12
"""Lines of a page's table of classes or images; the file holds all."""


def image_tables(records: Records, folder: Path) -> tuple[list[Table], list[str]]:
    """Write images.csv, classes.csv and flipped.csv into `folder`; return the tables of the page, and its notes.

    If the runs keep no outcomes, the files are deleted, and the note gives the reason.
    """
    try:
        outcomes: MetricOutcomes = records["outcomes"]
    except NotDrawnError as error:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        return [], [f"No tables of test images: {error}"]
    tables = {name: make(outcomes) for name, make in FILES.items()}
    for name, table in tables.items():
        write_table(table, folder / name)
    of_images, of_classes, flipped = tables.values()
    shown = [_of_images(of_images, outcomes)]
    if outcomes.images is not None:
        for level in outcomes.images.levels:
            shown += _of_classes(of_classes[of_classes["level"] == level.name], level.name, outcomes)
        shown += _flipped(flipped, outcomes)
    left_out = f"Not in the tables of test images, since they measured other images: {', '.join(outcomes.left_out)}"
    return shown, [left_out] * bool(outcomes.left_out)


def _of_images(table: pd.DataFrame, outcomes: MetricOutcomes) -> Table:
    header = ("cell", "mean", "difference", "gained", "lost", "p (McNemar)")
    lines = [
        (
            Entry(entry["cell"]),
            Entry(f"{entry['mean']:.2f} ± {entry['error']:.2f}"),
            Entry(_number(entry["delta_baseline"], "+.2f", entry["delta_error"])),
            Entry(_number(entry["gained"], ".1f")),
            Entry(_number(entry["lost"], ".1f")),
            Entry(probability(entry["p_mcnemar"])),
        )
        for entry in _entries(table)
    ]
    share = "percent of the images" if outcomes.counts_wrong else "percent"
    caption = f"{outcomes.metric} over test images (images.csv), {share}: mean ± standard error over images"
    if outcomes.baseline is not None:
        caption += (
            f"; images per seed that are right here and wrong in {outcomes.baseline} (gained), or the converse (lost); "
            "p: the largest of the seeds, exploratory and not corrected"
        )
    return Table(caption, header, tuple(lines))


def _of_classes(table: pd.DataFrame, level: str, outcomes: MetricOutcomes) -> list[Table]:
    """Return the classes of one level whose mean differs most from the baseline's, or nothing without a baseline."""
    compared = table[table["delta_baseline"].notna()]
    if compared.empty:
        return []
    order = compared["delta_baseline"].abs().sort_values(ascending=False, kind="stable").index[:MOST_LINES]
    caption = (
        f"{outcomes.metric} by {level}, percent: the largest differences from {outcomes.baseline}, of "
        f"{len(compared):,} (classes.csv)"
    )
    return [_listed(caption, compared.loc[order], _CLASSES)]


def _flipped(table: pd.DataFrame, outcomes: MetricOutcomes) -> list[Table]:
    if table.empty:
        return []
    caption = (
        f"Test images that {outcomes.baseline} gets wrong and a cell right in most seeds, or the converse: "
        f"{min(MOST_LINES, len(table))} of {len(table):,} (flipped.csv)"
    )
    first = table.assign(place=table.groupby("cell").cumcount()).sort_values("place", kind="stable")  # of each cell
    return [_listed(caption, first.head(MOST_LINES), _FLIPPED)]


def _listed(caption: str, table: pd.DataFrame, columns: Mapping[str, str]) -> Table:
    texts: dict[str, Callable[[Any], str]] = {"delta_baseline": lambda value: f"{value:+.1f}"}
    lines = [tuple(Entry(texts.get(name, _plain)(entry[name])) for name in columns) for entry in _entries(table)]
    return Table(caption, tuple(columns.values()), tuple(lines))


def _plain(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _entries(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def _number(value: float, format_spec: str, error: float | None = None) -> str:
    if math.isnan(value):
        return EMPTY
    spread = "" if error is None or math.isnan(error) else f" ± {error:.2f}"
    return f"{value:{format_spec}}{spread}"
