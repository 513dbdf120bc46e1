"""Tables of annotations in text, CSV and MATLAB files; each fault is named by file, and by line if there are lines."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

_Split = Callable[[TextIO, Sequence[str]], Iterator[tuple[int, list[str]]]]
"""Function that yields (line number, cells) of each row of an open file."""


@dataclass(frozen=True)
class Row:
    """Row of a table."""

    place: str
    """File and line, as `file:line`."""
    cells: tuple[str, ...]
    """One text per column of the reader, without surrounding white space."""


class _RowError(csv.Error):
    """Row of a CSV file that cannot be read."""

    def __init__(self, line: int, reason: str) -> None:
        """`line` is the one in which the row begins."""
        super().__init__(reason)
        self.line = line


@dataclass(frozen=True)
class Header:
    """Header of a CSV file."""

    columns: tuple[str, ...]
    separator: str
    line: int


def read_words(path: Path, columns: Sequence[str], faults: list[str]) -> list[Row]:
    """Return the rows of a text file whose columns are separated by white space; the last one may hold spaces.

    Empty lines are skipped. Lines with too few columns, or with a first cell that an earlier line has, are appended to
    `faults`, as is a file that cannot be read.
    """
    return _rows(path, columns, faults, _split_words)


def read_csv(path: Path, columns: Sequence[str], faults: list[str], delimiter: str = ",") -> list[Row]:
    """Return the cells of `columns` of a CSV file with a header, in any order and among others.

    Rows of empty cells are skipped. Faults are those of `read_words`, a column that the header lacks, and rows with
    more cells than the header.
    """

    def split(file: TextIO, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        rows = _csv_rows(file, delimiter)
        header = _next_header(rows, delimiter).columns
        if lacking := [column for column in columns if column not in header]:
            raise ValueError(f"the header lacks {', '.join(lacking)}; it has {', '.join(header) or 'no columns'}")
        places = [header.index(column) for column in columns]
        for line, cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                faults.append(
                    f"{path}:{line}: has {len(cells)} cells, but the header has {len(header)}: put a text "
                    f"with {delimiter!r} in it into double quotes, or remove the empty cells at the end"
                )
            else:
                yield line, [cells[place] for place in places if place < len(cells)]

    return _rows(path, columns, faults, split)


def read_header(path: Path, separator: str) -> Header:
    """Return the header of a CSV file.

    Raises:
        OSError, UnicodeDecodeError, csv.Error: The file cannot be read.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        return _next_header(_csv_rows(file, separator), separator)


def _csv_rows(file: TextIO, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the last line and the cells of each row.

    Raise a `_RowError` for a row whose quotes do not match. It would otherwise take in all rows up to the next quote.
    """
    reader = csv.reader(file, delimiter=separator, strict=True)
    while True:
        first_line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _RowError(first_line, str(error)) from None
        yield reader.line_num, cells


def _next_header(rows: Iterator[tuple[int, list[str]]], separator: str) -> Header:
    """Return the header in the next row that has any names; Excel's line `sep=;` is passed over."""
    line = 0
    for line, cells in rows:
        names = tuple(name.strip() for name in cells)
        if any(names) and not re.fullmatch("sep=.?", names[0], re.IGNORECASE):
            return Header(names, separator, line)
    return Header((), separator, line)


def why_unreadable(path: Path, error: Exception) -> str:
    """Return the message about a text file whose reading raised `error`, with the line that is at fault if known."""
    if isinstance(error, _RowError):
        return (
            f"{path}:{error.line}: the row that begins here cannot be read ({error}): close the double quote that "
            "opens a cell, and double each one inside of a quoted cell"
        )
    if isinstance(error, UnicodeDecodeError):
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.decode(errors="replace") != line.decode(errors="ignore"):
                    return f"{path}:{number}: is not UTF-8: save it so (CSV UTF-8 in Excel), or convert it with iconv"
    return f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"


def read_matlab(path: Path, variable: str, faults: list[str]) -> Any:
    """Return a variable of a MATLAB file as an array, which is empty after a fault."""
    import numpy as np
    from scipy.io import loadmat

    try:
        return np.atleast_1d(loadmat(io.BytesIO(path.read_bytes()), squeeze_me=True)[variable])
    except KeyError:
        faults.append(f"{path}: has no variable {variable}")
    except Exception as error:  # scipy raises many types for damaged files
        faults.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
    return np.empty(0)


def _split_words(file: TextIO, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, line.split(maxsplit=len(columns) - 1)


def _rows(path: Path, columns: Sequence[str], faults: list[str], split: _Split) -> list[Row]:
    rows: list[Row] = []
    seen: dict[str, int] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line, texts in split(file, columns):
                cells = tuple(text.strip() for text in texts)
                if len(cells) < len(columns):
                    faults.append(f"{path}:{line}: must have the columns {', '.join(columns)}")
                elif cells[0] in seen:
                    faults.append(f"{path}:{line}: a second row for {cells[0]}; the first is in line {seen[cells[0]]}")
                else:
                    seen[cells[0]] = line
                    rows.append(Row(f"{path}:{line}", cells))
    except (OSError, ValueError, csv.Error) as error:
        faults.append(why_unreadable(path, error))
    return rows
