"""Published tables as data, and the published values of each cell."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fgssl.errors import UserError
from fgssl.settings.validation import unknown

SUFFIXED = {"linear": "linear_100", "rank1": "rank1"}
"""Measure by the first part of a column's name, in tables with columns such as `linear_cub200`."""
DERIVED = ("decrease_percent",)
"""Columns that follow from other numbers and are not measures."""


@dataclass(frozen=True)
class PublishedTable:
    """File of published numbers, its lines as text by column."""

    file: Path
    columns: tuple[str, ...]
    lines: tuple[Mapping[str, str], ...]

    @property
    def datasets(self) -> list[str]:
        """Datasets for which the table has values."""
        if "dataset" in self.columns:
            return list(dict.fromkeys(line["dataset"] for line in self.lines))
        split = (column.partition("_") for column in self.columns)
        return list(dict.fromkeys(dataset for measure, _, dataset in split if measure in SUFFIXED and dataset))


def published(file: Path) -> PublishedTable:
    """Read a table; raise a `UserError` that names the existing tables or the damaged line if that fails."""
    try:
        with file.open(newline="", encoding="utf-8") as text:
            reader = csv.DictReader(text, strict=True)
            lines = tuple(reader)
        columns = tuple(reader.fieldnames or ())
        uneven = [number for number, line in enumerate(lines, 2) if None in line or None in line.values()]
        if uneven or not lines:
            raise ValueError(
                f"line {uneven[0]} must have {len(columns)} fields, as line 1" if uneven else "it has no lines"
            )
        return PublishedTable(file, columns, lines)
    except FileNotFoundError:
        there = sorted(path.stem for path in file.parent.glob("*.csv"))
        raise UserError(f"{file}: {unknown(file.stem, there, what='table')}") from None
    except (OSError, ValueError, csv.Error) as error:  # among them: not UTF-8
        raise UserError(f"{file}: cannot be read as a table ({error}): restore the file") from None


def reference_values(table: str, dataset: str, match: Mapping[str, object], folder: Path) -> dict[str, float]:
    """Return the published measures of one cell, by name, from the line that has the values `match` by column.

    `table` is the name of a file in `folder`. The column `outliers` of a line whose `level` is genus is the measure
    `outliers_genus`. The result is empty if the table has no values for `dataset`, or no such line because the cell was
    not published. Raise a `UserError` if the table or a column is unknown, or if `match` fits several lines.
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
            f"{source.file}: reference.match {dict(match)} fits {len(found)} lines: match more of "
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
    """Return whether a field equals `value`: numbers by value (`0.0` is 0), words by letter, others never."""
    if not isinstance(value, str | int | float):
        return False
    number, wanted = _number(text), _number(str(value))
    return text == value if number is None or wanted is None else math.isclose(number, wanted, rel_tol=1e-9)


def _number(text: str) -> float | None:
    """Return the number in a field, or None for an empty field or a word."""
    try:
        return float(text)
    except ValueError:
        return None
