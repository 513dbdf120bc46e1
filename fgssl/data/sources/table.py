"""Source `csv`: a table of image paths, with columns for labels, split, group and attributes."""

import csv
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.class_folders import is_hidden, is_image
from fgssl.data.sources.labeled_files import LabeledFile, Splits, levels, samples, without_images
from fgssl.data.sources.split_names import SplitNames, kind_of, recognize
from fgssl.data.sources.splitting import split
from fgssl.data.sources.tables import Header, Row, read_csv, read_header, why_unreadable
from fgssl.errors import DataError, alternatives
from fgssl.settings.declare import NonNegativeInt, settings
from fgssl.store.manifest import Level, listed

SEPARATORS = (",", ";", "\t", "|")
LIKE_MISSING = frozenset({"nan", "na", "n/a", "<na>", "null", "none"})
"""Texts, in lower case, that pandas, R and databases write for no value, but that may name a class as well."""

Column = Annotated[str, Field(min_length=1)]


@settings
class CsvSettings:
    """Options of `fgssl pack csv`."""

    name: Column | None = None
    """Name of the dataset; the default is the name of the table."""
    root: Path | None = None
    """Folder from which relative paths start; the default is the folder of the table."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Character between columns; if not given, the one of comma, semicolon, tab and | that fits the header best."""
    path: Column = "path"
    """Column of the paths."""
    labels: tuple[Column, ...] | None = None
    """Columns of the labels, finest first, such as [species,genus]; the default is [label], and [] is unlabeled. The
    columns name the label levels. A column is found in another case too (Label), if none has the very name."""
    split: Column | None = None
    """Column of the split; if not given, the one named split. Without it, fgssl makes the split."""
    train: SplitNames | None = None
    """Text of the training split, or several such as [train,val]; if not given, train or training in any case."""
    test: SplitNames | None = None
    """Text of the test split, such as val; if not given, a usual name of a test split, or else of a validation one."""
    test_table: Path | None = None
    """Second table, with the same columns, that holds the test split; the first holds the training split then."""
    group: Column | None = None
    """Column of the group, such as a patient or a track; if not given, the one named group. A split that fgssl makes
    never divides a group. A row without group is a group of its own."""
    attributes: tuple[Column, ...] | None = None
    """Columns of numbers to record for each image, such as [latitude,longitude]."""
    missing: tuple[Column, ...] = ()
    """Texts that stand for an empty label or group, such as [NaN,NA]. Otherwise they are names like all others."""
    empty_labels: Literal["refuse", "drop"] = "refuse"
    """Whether rows with an empty label are faults, or are left out and counted."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each class for the test split, if the tables have no splits."""
    seed: NonNegativeInt = 0
    """Seed of the split into train and test, and of the order in the shards."""


@dataclass
class _Table:
    """One table, while it is read."""

    path: Path
    options: CsvSettings
    faults: list[str]
    places: dict[str, str]
    """Line of each image of all tables."""
    names: dict[str, set[str]]
    """Names of the files of each folder that a row names."""
    files: list[LabeledFile] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    """Text of the split of each file, if there is such a column."""
    unused: tuple[str, ...] = ()
    """Columns that no key names."""
    dropped: int = 0
    backslashes: int = 0
    """Number of paths that are written with backslashes."""
    doubtful: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of rows by column and text, of labels and groups whose text may stand for no value."""


def read(table: Path, options: CsvSettings) -> SourceDataset:
    """Read the rows of the table, or of both; raise a `DataError` with all their faults."""
    faults: list[str] = []
    places: dict[str, str] = {}
    names: dict[str, set[str]] = {}
    paths = [table, *([options.test_table] if options.test_table else [])]
    tables = [_Table(path, options, faults, places, names) for path in paths]
    for one in tables:
        _read_rows(one)
        if faults and places == {} and options.root is None and names:
            faults.insert(0, f"{one.path}: no image is there: give root=FOLDER, the folder from which its paths start")
    _refuse(faults)
    remarks = [*_left_out(tables, names, places), *itertools.chain.from_iterable(map(_about_texts, tables))]
    arguments: dict[str, float] = {"seed": options.seed}
    level_names = _labels(options)
    splits: Splits
    if len(tables) == 2:
        splits = {"train": tables[0].files, "test": tables[1].files}
    elif tables[0].splits:
        splits = _by_column(tables[0], remarks)
    elif level_names:
        arguments["test_fraction"] = options.test_fraction
        splits, equal = split(tables[0].files, options.test_fraction, options.seed, faults)
        remarks += equal
    else:
        splits = {"train": tables[0].files}
    _refuse(faults)
    classes = levels(level_names, splits)
    _refuse([f"{fault}: add rows, or remove those of the class" for fault in without_images(splits, classes[:1])])
    return SourceDataset(
        name=options.name or table.stem,
        source="csv",
        arguments=arguments,
        levels=classes,
        splits={name: samples(files, classes) for name, files in splits.items()},
        seed=options.seed,
        remarks=(*remarks, *_crossing(splits, classes)),
    )


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise DataError(listed(faults, "fault in the table", "faults in the table"))


def _labels(options: CsvSettings) -> tuple[str, ...]:
    return ("label",) if options.labels is None else options.labels


def _header(path: Path, options: CsvSettings) -> Header:
    headers: list[Header] = []
    wrong: list[csv.Error] = []
    try:
        for separator in [options.separator] if options.separator else SEPARATORS:
            try:
                headers.append(read_header(path, separator))
            except csv.Error as error:  # quotes of the header that fit another separator
                wrong.append(error)
        header = max(headers, key=lambda header: (bool(_matching(options.path, header)), len(header.columns)))
        if wrong and len(header.columns) == 1 and not _matching(options.path, header):
            raise wrong[0]
        return header
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        advice = "; give the file of the table" if path.is_dir() else "" if path.exists() else f"; {alternatives(path)}"
        raise DataError(f"{why_unreadable(path, error)}{advice}") from None


def _matching(name: str, header: Header) -> list[str]:
    """Return the columns of that name, or else those that differ from it in case only."""
    same = [column for column in header.columns if column == name]
    return same or [column for column in header.columns if column.casefold() == name.casefold()]


def _read_rows(table: _Table) -> None:
    options, path = table.options, table.path
    header = _header(path, options)
    where = f"{path}:{header.line}"
    optional = {"split": options.split, "group": options.group}
    used = {key: name or (key if _matching(key, header) else "") for key, name in optional.items()}
    if options.test_table:
        used["split"] = ""
    keys = {"path": [options.path], "labels": _labels(options), "attributes": options.attributes or ()}
    keys |= {key: [name] for key, name in used.items() if name}
    wanted = {(key, name): _matching(name, header) for key, names in keys.items() for name in names}
    wrong = [f"{where}: {key}: no column {name!r}" for (key, name), found in wanted.items() if not found]
    wrong += [
        f"{where}: {key}: several columns {name!r}: rename one" for (key, name), found in wanted.items() if found[1:]
    ]
    if wrong:
        table.faults += wrong
        table.faults.append(f"{where}: its columns are {', '.join(header.columns)}: choose some with KEY=COLUMN")
        return
    columns = {name: found[0] for (_, name), found in wanted.items()}
    table.unused = tuple(name for name in header.columns if name and name not in columns.values())
    rows = read_csv(path, list(columns.values()), table.faults, header.separator)
    if not rows and not table.faults:
        table.faults.append(f"{path}: has no rows: give a table with one row per image below the header")
    absolute = [row.cells[0] for row in rows if os.path.isabs(row.cells[0])]
    root = options.root or path.parent
    base = os.path.commonpath([os.path.dirname(text) for text in absolute]) if absolute else ""
    if Path(base).is_relative_to(root.absolute()):
        base = str(root.absolute())
    for row in rows:
        _add(table, row, dict(zip(columns, row.cells, strict=True)), used, root, base)


def _add(table: _Table, row: Row, cells: Mapping[str, str], used: Mapping[str, str], root: Path, base: str) -> None:
    """Add the file of a row to the table, or what is wrong with it to the faults."""
    options, faults = table.options, table.faults
    text = _with_slashes(table, cells[options.path], root)
    classes = tuple(cells[name] for name in _labels(options))
    empty = [name for name in _labels(options) if cells[name] in ("", *options.missing)]
    if empty and options.empty_labels == "drop":
        table.dropped += 1
        return
    if empty:
        faults.append(f"{row.place}: {text}: no {' and no '.join(empty)}; empty_labels=drop leaves such rows out")
        return
    path = os.path.normpath(os.path.join(root, text))
    folder, name = os.path.split(path)
    if not text:
        faults.append(f"{row.place}: no {options.path}: give the path of the image, or remove the row")
    elif path in table.places:
        faults.append(f"{row.place}: {text}: is in {table.places[path]} already: remove one of the rows")
    elif name not in _names(folder, table.names):
        faults.append(f"{row.place}: {path}: is missing{_advice(text, name, table.names[folder])}")
    else:
        table.places[path] = row.place
        source_id = os.path.relpath(path, base) if os.path.isabs(text) else os.path.normpath(text)
        group = cells[used["group"]] if used["group"] else ""
        attributes = {name: _number(cells[name], row, name, faults) for name in options.attributes or ()}
        group = "" if group in options.missing else group
        table.files.append(LabeledFile(Path(path), source_id, classes, group, attributes))
        named = zip((*_labels(options), used["group"]), (*classes, group), strict=True)
        table.doubtful.update(each for each in named if each[1].casefold() in LIKE_MISSING)
        if used["split"]:
            table.splits.append(cells[used["split"]])


def _with_slashes(table: _Table, text: str, root: Path) -> str:
    """Return a path with slashes, if it is written with the backslashes of Windows."""
    if "\\" not in text or os.path.lexists(os.path.join(root, text)):
        return text
    table.backslashes += 1
    return text.replace("\\", "/")


def _advice(text: str, name: str, there: Collection[str]) -> str:
    """Return advice on a missing file; `there` are the names in its folder."""
    if re.match("[A-Za-z]:/", text):
        return "; cut the beginning that is of another machine off the paths, and give root=FOLDER"
    near = next((other for other in there if other.casefold() == name.casefold()), None)
    return f"; there is {near}" if near else ""


def _names(folder: str, known: dict[str, set[str]]) -> set[str]:
    """Return the names of all files of a folder, which is listed once; none if it cannot be read."""
    if folder not in known:
        try:
            known[folder] = set(os.listdir(folder))
        except OSError:
            known[folder] = set()
    return known[folder]


def _number(text: str, row: Row, column: str, faults: list[str]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        faults.append(f"{row.place}: {column}: an attribute must be a number such as 0.5, not {text!r}")
    return number


def _by_column(table: _Table, remarks: list[str]) -> Splits:
    """Return the splits that the column states; rows with other texts are left out, with a remark."""
    options = table.options
    where = f"{table.path}: column {options.split or 'split'}"
    numbers = Counter(table.splits)
    unusual = sorted(text for text in numbers if kind_of(text) is None)
    if unusual and options.train is None and options.test is None:
        raise DataError(
            f"{where}: {', '.join(map(repr, unusual[:5]))} is not a usual name of a split: choose with train=TEXT "
            "test=TEXT; rows with other texts are left out then"
        )
    found, renamed = recognize(set(numbers), options.train, options.test, where, "remove that column")
    others = sorted(set(numbers) - {text for texts in found.values() for text in texts})
    remarks += renamed
    remarks += [f"{numbers[text]} rows left out, whose split is {text!r}" for text in others]
    return {
        name: [file for file, text in zip(table.files, table.splits, strict=True) if text in texts]
        for name, texts in found.items()
    }


def _left_out(tables: Sequence[_Table], names: Mapping[str, set[str]], places: Mapping[str, str]) -> list[str]:
    remarks = [
        f"{table.path}: {table.dropped} rows left out, whose label is empty" for table in tables if table.dropped
    ]
    found = [
        os.path.join(folder, name)
        for folder, inside in names.items()
        for name in inside
        if is_image(name) and not is_hidden(name)
    ]
    if without := sorted(set(found) - set(places)):
        remarks.append(listed(without, "image without a usable row", "images without a usable row"))
    return remarks


def _about_texts(table: _Table) -> list[str]:
    """Return remarks on columns that are not used, and on how texts were read."""
    remarks = []
    if table.unused:
        remarks.append(f"{table.path}: columns that are not used, since no key names them: {', '.join(table.unused)}")
    if table.backslashes:
        remarks.append(f"{table.path}: {table.backslashes} paths are written with \\, which was read as /")
    for (column, text), number in sorted(table.doubtful.items()):
        remarks.append(
            f"{table.path}: {number} rows have {column} {text!r}, which was read as a name: if it stands for no value, "
            f"give 'missing=[\"{text}\"]'"
        )
    return remarks


def _crossing(splits: Splits, classes: Sequence[Level]) -> list[str]:
    """Return remarks about groups in several splits, and classes with several classes of the next level."""
    remarks = []
    groups = [{file.group for file in files} - {""} for files in splits.values()]
    if len(groups) == 2 and (both := sorted(groups[0] & groups[1])):
        remarks.append(listed(both, "group with images in both splits", "groups with images in both splits"))
    for level in range(len(classes) - 1):
        above: dict[str, set[str]] = {}
        for files in splits.values():
            for file in files:
                above.setdefault(file.classes[level], set()).add(file.classes[level + 1])
        several = [f"{name} ({', '.join(sorted(theirs))})" for name, theirs in above.items() if len(theirs) > 1]
        kinds = f"of {classes[level].name} with several of {classes[level + 1].name}"
        if several:
            remarks.append(listed(sorted(several), f"class {kinds}", f"classes {kinds}"))
    return remarks


SOURCE = Source(
    name="csv",
    summary="images that a table lists, with columns for labels, split, group and attributes",
    settings=CsvSettings,
    paths=("TABLE",),
    levels=(),
    how_to_get="""\
TABLE is a text file in UTF-8 with a header and one row per image, of your own or converted from an archive:

    path,species,genus,split,group
    images/1.jpg,Amanita muscaria,Amanita,train,observation 17
    images/2.jpg,Boletus edulis,Boletus,test,observation 18

    fgssl pack csv TABLE DST 'labels=[species,genus]'

Other columns are ignored, and named after packing. Paths are absolute, or relative to the folder of the table (or
root). Without a column for the split, a share of each class (test_fraction, drawn by the paths with seed) becomes the
test split. Tables that Excel saves as "CSV UTF-8" are read as they are.""",
    read=read,
)
