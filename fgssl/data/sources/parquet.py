"""Source `parquet`: mirrors of datasets as parquet files, with columns for the image and its labels.

Hugging Face stores datasets as `data/train-00000-of-00002.parquet`, or `train/0000.parquet`. An image is a struct of
`bytes` and `path`, and the names of integer labels are in the schema's metadata.
"""

import functools
import json
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fgssl.data.source import Sample, Source, SourceDataset, UnreadableImageError
from fgssl.data.sources.labeled_files import LabeledFile, levels, samples, without_images
from fgssl.data.sources.split_names import SplitNames, kind_of, recognize
from fgssl.errors import DataError
from fgssl.settings.declare import NonNegativeInt, settings
from fgssl.store.manifest import listed

if TYPE_CHECKING:
    import pyarrow

CACHE_BYTES = 2 * 2**30
"""Most bytes of row groups that are kept in memory. An image is read with its whole row group, which takes 0.1 s if it
has 120 MB, and images are packed in random order."""

Column = Annotated[str, Field(min_length=1)]


@settings
class ParquetSettings:
    """Options of `fgssl pack parquet`."""

    name: Column | None = None
    """Name of the dataset; the default is the name of the folder."""
    revision: str = ""
    """Revision of the mirror, such as its commit; it is recorded with the packed dataset."""
    image: Column = "image"
    """Column of the images: encoded bytes, or a struct with bytes."""
    labels: tuple[Column, ...] | None = None
    """Columns of the labels, finest first, such as [fine_label,coarse_label]; the default is [label], and [] is
    unlabeled. The columns name the label levels."""
    group: Column | None = None
    """Column of the group of an image, such as a patient."""
    train: SplitNames | None = None
    """Split that becomes the training split, or several such as [train,validation]; if not given, the usual one."""
    test: SplitNames | None = None
    """Split that becomes the test split, such as validation; if not given, the usual one."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: ParquetSettings) -> SourceDataset:
    """Read the labels of all parquet files below `root`; raise a `DataError` with all faults."""
    files: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.parquet")):
        files.setdefault(_split(path), []).append(path)
    if not files:
        raise DataError(f"{root}: no parquet files in it; give the folder that a mirror was downloaded into")
    _refuse_configurations(root, files)
    chosen, remarks = recognize(set(files), options.train, options.test, str(root), "pack it with another source")
    if left_out := sorted(set(files) - {name for names in chosen.values() for name in names}):
        remarks.append(f"left out, since neither train nor test names it: {', '.join(left_out)}")
    faults: list[str] = []
    splits = {
        split: [file for name in names for path in files[name] for file in _rows(root, path, options, faults)]
        for split, names in chosen.items()
    }
    _refuse(faults)
    classes = levels(_labels(options), splits)
    _refuse(without_images(splits, classes[:1]))
    return SourceDataset(
        name=options.name or root.resolve().name,
        source="parquet",
        arguments={"seed": options.seed, "revision": options.revision},
        levels=classes,
        splits={split: samples(found, classes, partial(_sample, options.image)) for split, found in splits.items()},
        seed=options.seed,
        remarks=tuple(remarks),
    )


def _refuse_configurations(root: Path, files: Mapping[str, Sequence[Path]]) -> None:
    """Raise a `DataError` if files of one split lie in several folders, as those of a mirror's configurations do."""
    for split, paths in files.items():
        if len(folders := sorted({str(path.parent) for path in paths})) > 1:
            raise DataError(
                f"{root}: split {split} has files in {len(folders)} folders, which may hold the same images: "
                f"{', '.join(folders)}: give the folder of one configuration"
            )


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise DataError(listed(faults, "fault in the parquet files", "faults in the parquet files"))


def _labels(options: ParquetSettings) -> tuple[str, ...]:
    return ("label",) if options.labels is None else options.labels


def _split(path: Path) -> str:
    """Return the split that a file's name opens with, or else the name of its folder."""
    opening = path.stem.split("-")[0]
    return opening if kind_of(opening) is not None or kind_of(path.parent.name) is None else path.parent.name


def _rows(root: Path, path: Path, options: ParquetSettings, faults: list[str]) -> list[LabeledFile]:
    """Return one file for each row, whose source id ends with the number of the row."""
    names = [*_labels(options), *([options.group] if options.group else [])]
    try:
        parquet = _opened(path)
        schema = parquet.schema_arrow
        if lacking := [name for name in (options.image, *names) if name not in schema.names]:
            there = ", ".join(schema.names)
            faults.append(
                f"{path}: has no column {', '.join(lacking)}; its columns are {there}: give image= or labels="
            )
            return []
        cells = [_texts(parquet.read(columns=[name]).column(name), schema, name) for name in names]
    except (OSError, ValueError, TypeError) as error:  # pyarrow's own errors are of these types
        faults.append(f"{path}: cannot be read ({error}): download it again")
        return []
    origin, found = path.relative_to(root).as_posix(), []
    for row in range(parquet.metadata.num_rows):
        texts = [column[row] for column in cells]
        if empty := [name for name, text in zip(_labels(options), texts, strict=False) if not text]:
            faults.append(f"{path}: row {row}: no {' and no '.join(empty)}: name other columns with labels=[...]")
        classes = tuple(texts[: len(_labels(options))])
        found.append(LabeledFile(path, f"{origin}/{row}", classes, texts[-1] if options.group else ""))
    return found


def _texts(column: "pyarrow.ChunkedArray", schema: "pyarrow.Schema", name: str) -> list[str]:
    """Return the cells as text; integers of a Hugging Face class label by the names of the classes."""
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    classes = features.get(name, {}).get("names") if isinstance(features.get(name), dict) else None
    values = column.to_pylist()
    if classes is None:
        return ["" if value is None or value != value else str(value) for value in values]  # NaN differs from itself
    return ["" if value is None or not 0 <= value < len(classes) else str(classes[value]) for value in values]


def _opened(path: Path) -> "pyarrow.parquet.ParquetFile":
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError("parquet files are read with pyarrow: pip install 'fgssl[parquet]'") from None
    return pyarrow.parquet.ParquetFile(path)


def _sample(column: str, file: LabeledFile, labels: tuple[int, ...]) -> Sample:
    row = int(file.source_id.rpartition("/")[2])
    try:
        starts = _starts(file.path)
        group = max(number for number, start in enumerate(starts) if start <= row)
        value = _row_groups.get(file.path, group, column)[row - starts[group]].as_py()
    except (OSError, ValueError) as error:
        raise UnreadableImageError(f"{file.source_id}: {error}") from error
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes) or not content:
        raise UnreadableImageError(f"{file.source_id}: the cell holds no bytes of an image")
    return Sample(content, labels, file.source_id, file.group)


@functools.lru_cache(maxsize=256)
def _starts(path: Path) -> list[int]:
    """Return the first row of each row group."""
    metadata = _opened(path).metadata
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return [sum(rows[:number]) for number in range(len(rows))]


class _RowGroups:
    """Row groups of images that were read last; a random one of their images is read in no time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, int, str], pyarrow.ChunkedArray] = {}
        """Images by file, number of the row group and column; the row group that was used last is the last one."""
        self._lock = threading.Lock()

    def get(self, path: Path, number: int, column: str) -> "pyarrow.ChunkedArray":
        """Return the images of a row group."""
        key = path, number, column
        with self._lock:
            group = self._kept.pop(key, None)
        if group is None:
            group = _opened(path).read_row_group(number, columns=[column]).column(0)
        with self._lock:
            self._kept[key] = group
            while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > CACHE_BYTES:
                del self._kept[next(iter(self._kept))]
        return group


_row_groups = _RowGroups()


SOURCE = Source(
    name="parquet",
    summary="a mirror of a dataset as parquet files, such as those of Hugging Face",
    settings=ParquetSettings,
    levels=(),
    how_to_get="""\
Reading them needs `pip install 'fgssl[parquet]'`. Download a mirror, and give the revision that you downloaded, which
is recorded; the mirror's page states its license and where the images are from:

    hf download tanganke/stanford_cars --repo-type dataset --revision REVISION --local-dir IMAGES
    fgssl pack parquet IMAGES DST name=cars revision=REVISION

The split is the beginning of a file's name (train-00000-of-00002.parquet) or the name of its folder. Other columns are
chosen by image=COLUMN and labels=[COLUMN]. Images are read in random order, each with its row group, of which 2 GiB are
kept in memory: larger mirrors with large row groups take long to pack.""",
    read=read,
)
