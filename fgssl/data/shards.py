"""Packed datasets: reading a folder of plain HDF5 shards and a manifest, which `fgssl.data.packing` writes.

    manifest.json        see fgssl.store.manifest
    <split>-00000.h5     images      (bytes,) uint8, contiguous: every encoded image, one after the other
                         offsets     (n + 1,) int64: image i is images[offsets[i]:offsets[i + 1]]
                         labels      (n, L) int64, finest level first; L is 0 for unlabeled images
                         source_ids  (n,) UTF-8: origin of each image
                         groups      (n,) int64: images of one group stay on one side of a validation split
                         attributes/<name>  (n,) float64: one recorded attribute of each image
                         masks       (bytes,) uint8: every mask as a PNG of one bit per pixel; only with masks
                         mask_offsets  (n + 1,) int64: as offsets, of the masks; only with masks

Packing permutes the images once, so that neighbors in a shard are not neighbors in the source.
"""

import bisect
import contextlib
import functools
import itertools
import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from fgssl.data.decoded_cache import DecodedCache, shared_cache
from fgssl.data.decoding import decode
from fgssl.data.masks import Mask, decoded_mask
from fgssl.errors import DataError
from fgssl.store.files import unreadable
from fgssl.store.manifest import Level, Manifest, Shard


class ShardedSplit:
    """One split of a packed dataset, read image by image.

    Opening reads everything but the images and their names, and raises a `DataError` unless the manifest, the shards'
    sizes and the extents of their datasets agree. No HDF5 handle is kept: `read` is a `pread` at a fixed offset, which
    is safe over forks and threads. Shards stay open once they are read. If the limit of open files cannot be raised
    to four times their number, only the shards that were read last do, at most a quarter of the limit.

    With `cache` "memory", the processes of a node decode each image once, and share the pixels in memory.
    """

    labels: NDArray[np.int64]
    """Classes (n, L), finest level first."""
    groups: NDArray[np.int64]
    """Group (n,) of each image; images of one group stay on one side of a validation split."""
    attributes: dict[str, NDArray[np.float64]]
    """Recorded attributes by name, (n,) each."""

    def __init__(self, folder: Path, split: str, cache: Literal["none", "memory"] = "none") -> None:
        self.folder, self.split, self.cache = folder, split, cache
        self.manifest = Manifest.read(folder)
        if split not in self.manifest.splits:
            raise DataError(f"{folder}: has no split {split!r}; it has {', '.join(self.manifest.splits)}")
        shards = self.manifest.splits[split]
        self._paths = [folder / shard.file for shard in shards]
        self._first_rows = list(itertools.accumulate((shard.count for shard in shards), initial=0))
        rows = self._first_rows[-1]
        self.labels = np.empty((rows, len(self.levels)), dtype=np.int64)
        self.groups = np.empty(rows, dtype=np.int64)
        self.attributes = {name: np.empty(rows, dtype=np.float64) for name in self.manifest.attributes}
        self._offsets = np.empty(rows + len(shards), dtype=np.int64)
        """Offsets (count + 1,) of each shard's images from the start of its file, one shard after the other."""
        self._mask_offsets = np.empty(rows + len(shards) if self.manifest.masks else 0, dtype=np.int64)
        """Offsets of the masks in the same way; empty if there are none."""
        for number, shard in enumerate(shards):
            self._read_table(number, shard)
        self._open_file = functools.lru_cache(_open_files_at_most(len(shards)))(_OpenFile)
        self._decoded: DecodedCache | None = None
        if cache == "memory":
            self._decoded = shared_cache(f"{self.version[:12]}-{split}", rows, self.pixels)

    def __len__(self) -> int:
        return self._first_rows[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.split, self.cache)  # another process opens its own descriptors

    @property
    def levels(self) -> list[Level]:
        """Names and classes of the label levels, finest first."""
        return list(self.manifest.levels)

    @property
    def version(self) -> str:
        """Version of the whole dataset with all its splits."""
        return self.manifest.version

    @property
    def source_ids(self) -> "SourceIds":
        """Origin of each image, read from the shards when it is used."""
        return SourceIds(self._paths, self._first_rows)

    def read(self, row: int) -> bytes:
        """Return the encoded image of one row; raise a `DataError` if its shard cannot be read."""
        return self._read(row, self._offsets)

    def _read(self, row: int, offsets: NDArray[np.int64]) -> bytes:
        shard, _ = _place(row, self._first_rows)
        path = self._paths[shard]
        start, end = offsets[row + shard : row + shard + 2].tolist()
        try:
            file = self._open_file(path)
            content = os.pread(file.descriptor, end - start, start)
        except OSError as error:
            raise DataError(unreadable(path, error)) from None
        if len(content) != end - start:
            raise DataError(
                f"{path}: row {row} has {len(content)} of {end - start} bytes: the file was truncated after it was "
                "opened; pack the dataset again"
            )
        return content

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """Return the upright RGB image (H, W, 3) of one row; raise an `OSError` or `ValueError` if it is damaged."""
        if self._decoded is None:
            return decode(self.read(row))
        found = self._decoded.get(row)
        if found is None:
            found = decode(self.read(row))
            self._decoded.put(row, found)
        return found

    def mask(self, row: int) -> Mask:
        """Return the mask (H, W) of one row; raise a `ValueError` if it is damaged.

        Raises:
            DataError: The dataset has no masks, or the shard cannot be read.
        """
        if not self.manifest.masks:
            raise DataError(f"{self.folder}: has no masks: pack the dataset again with masks=FOLDER")
        return decoded_mask(self._read(row, self._mask_offsets))

    def _read_table(self, number: int, shard: Shard) -> None:
        """Fill the arrays of this split with the content of one shard, except its images and their names."""
        first = self._first_rows[number]
        rows = slice(first, first + shard.count)
        with _opened(self._paths[number], shard) as file:
            places = slice(first + number, first + number + shard.count + 1)
            self._offsets[places] = _offsets_in_file(file["images"], file["offsets"][:], shard)
            if self.manifest.masks:
                self._mask_offsets[places] = _offsets_in_file(file["masks"], file["mask_offsets"][:], shard)
            if file["labels"].shape != (shard.count, len(self.levels)):
                raise ValueError("datasets do not fit the manifest")
            self.labels[rows] = file["labels"][:]
            self.groups[rows] = file["groups"][:]
            for name, values in self.attributes.items():
                values[rows] = file["attributes"][name][:]


def _offsets_in_file(content: h5py.Dataset, offsets: NDArray[np.int64], shard: Shard) -> NDArray[np.int64]:
    """Return offsets (n + 1,) from the start of the file; raise a `ValueError` if they do not fit `content`."""
    start = content.id.get_offset()  # None if the dataset is not contiguous
    if start is None or offsets.shape != (shard.count + 1,) or content.shape != (offsets[-1],):
        raise ValueError("datasets do not fit the manifest")
    if start + content.shape[0] > shard.bytes:
        raise ValueError("datasets do not fit the manifest")
    return np.asarray(start + offsets)


class SourceIds(Sequence[str]):
    """Origins of the images of a split. Each access reads a shard, since names of millions would fill the memory."""

    def __init__(self, paths: Sequence[Path], first_rows: Sequence[int]) -> None:
        self._paths, self._first_rows = paths, first_rows

    def __len__(self) -> int:
        return self._first_rows[-1]

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[one] for one in range(len(self))[row]]
        shard, place = _place(row, self._first_rows)
        with _opened(self._paths[shard]) as file:
            return os.fsdecode(file["source_ids"][place])

    def __iter__(self) -> Iterator[str]:
        for path in self._paths:
            with _opened(path) as file:
                names = file["source_ids"][:]
            yield from map(os.fsdecode, names)


class _OpenFile:
    """Descriptor that is closed with the last reference to it, and therefore never while a thread reads from it."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def _open_files_at_most(shards: int) -> int:
    """Return how many of the `shards` of a split stay open, after raising the soft limit of open files if necessary.

    Two splits leave half of the limit to everything else.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 4 * shards:
        raised = 4 * shards if hard == resource.RLIM_INFINITY else min(4 * shards, hard)
        with contextlib.suppress(OSError, ValueError):  # a limit of the system may be lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return shards if soft == resource.RLIM_INFINITY else max(1, min(soft // 4, shards))


def _place(row: int, first_rows: Sequence[int]) -> tuple[int, int]:
    """Return the number of the shard of a row, and the place of the row in it."""
    if not 0 <= row < first_rows[-1]:
        raise IndexError(f"row {row} of {first_rows[-1]}")
    shard = bisect.bisect_right(first_rows, row) - 1
    return shard, row - first_rows[shard]


@contextlib.contextmanager
def _opened(path: Path, shard: Shard | None = None) -> Iterator[h5py.File]:
    """Open a shard as HDF5 within the context; raise a `DataError` if it is unreadable, or has another size.

    HDF5 is handed an open file, on which it takes no locks: some cluster file systems have none.
    """
    try:
        raw = path.open("rb", buffering=0)
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    with raw:
        size = os.fstat(raw.fileno()).st_size
        if shard is not None and size != shard.bytes:
            raise DataError(
                f"{path}: shard has {size} bytes, but {shard.bytes} in the manifest: it was cut short or replaced; "
                "copy it again, or pack the dataset again"
            )
        try:
            with h5py.File(raw, "r") as file:
                yield file
        except (OSError, KeyError, ValueError, AttributeError) as error:
            if isinstance(error, OSError) and error.errno:  # of the system, and not of HDF5
                raise DataError(unreadable(path, error)) from None
            advice = "copy it again, or pack the dataset again"
            raise DataError(f"{path}: shard is damaged ({error}): {advice}") from None
