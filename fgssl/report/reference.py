"""Published tables as data: which published values stand beside which cell."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fgssl.errors import UserError
from fgssl.settings.validation import unknown

SUFFIXED = {"linear": "linear_100", "rank1": "rank1"}
"""Columns such as `linear_cub200` and the measure that they hold."""
DERIVED = ("decrease_percent",)
"""Columns that follow from the other numbers, and are no measure of a row."""


@dataclass(frozen=True)
class PublishedTable:
    """A file of published numbers: its lines as text, by column."""

    file: Path
    columns: tuple[str, ...]
    lines: tuple[Mapping[str, str], ...]

    @property
    def datasets(self) -> list[str]:
        """Every dataset that the table has values of."""
        if "dataset" in self.columns:
            return list(dict.fromkeys(line["dataset"] for line in self.lines))
        split = (column.partition("_") for column in self.columns)
        return list(dict.fromkeys(dataset for measure, _, dataset in split if measure in SUFFIXED and dataset))


def published(file: Path) -> PublishedTable:
    """Read a table; a `UserError` names the tables that there are, or the line that is damaged."""
    try:
        with file.open(newline="") as text:
            reader = csv.DictReader(text, strict=True)
            lines = tuple(reader)
        columns = tuple(reader.fieldnames or ())
        uneven = [number for number, line in enumerate(lines, 2) if None in line or None in line.values()]
        if uneven or not lines:
            raise ValueError(f"line {uneven[0]} has not the {len(columns)} fields of line 1" if uneven else "no lines")
        return PublishedTable(file, columns, lines)
    except FileNotFoundError:
        there = sorted(path.stem for path in file.parent.glob("*.csv"))
        raise UserError(f"{file}: {unknown(file.stem, there, what='table')}") from None
    except (OSError, ValueError, csv.Error) as error:  # among them: not UTF-8
        raise UserError(f"{file}: cannot be read as a table ({error}): put back the file as it was") from None


def reference_values(table: str, dataset: str, match: Mapping[str, object], folder: Path) -> dict[str, float]:
    """The published measures of one cell, by name: `table` is a file of `folder`, `match` values of its columns.

    `outliers` of a line whose `level` is genus is the measure `outliers_genus`.
    Empty where the table has nothing of `dataset`, or no such line (a cell that was not published). Raises `UserError`
    for an unknown table or column and where `match` fits several lines.
    """
    source = published(folder / f"{table}.csv")
    for column in match:
        if column not in source.columns:
            raise UserError(f"{source.file}: reference.match: {unknown(column, source.columns, what='column')}")
    if dataset not in source.datasets:
        return {}
    wanted = {"dataset": dataset, **match} if "dataset" in source.columns else dict(match)
    found = [line for line in source.lines if all(_equal(line[column], value) for column, value in wanted.items())]
    if len(found) > 1:
        raise UserError(
            f"{source.file}: reference.match {dict(match)} fits {len(found)} lines; match more of "
            f"{', '.join(column for column in source.columns if column not in wanted)}"
        )
    numbers = {
        _measure(column, line): number
        for line in found
        for column, text in line.items()
        if column not in (*wanted, *DERIVED) and (number := _number(text)) is not None
    }
    if "dataset" in source.columns:
        return numbers
    return {
        measure: numbers[f"{prefix}_{dataset}"]
        for prefix, measure in SUFFIXED.items()
        if f"{prefix}_{dataset}" in numbers
    }


def _measure(column: str, line: Mapping[str, str]) -> str:
    return f"{column}_{line['level']}" if column == "outliers" and "level" in line else column


def _equal(text: str, value: object) -> bool:
    """Numbers by value (`0.0` is 0), words by letter; a value of another kind is in no table."""
    if not isinstance(value, str | int | float):
        return False
    number, wanted = _number(text), _number(str(value))
    return text == value if number is None or wanted is None else math.isclose(number, wanted, rel_tol=1e-9)


def _number(text: str) -> float | None:
    """None for an empty field and for a word."""
    try:
        return float(text)
    except ValueError:
        return None
