"""Packed datasets: reading a folder of plain HDF5 shards and a manifest, which `fgssl.data.packing` writes.

    manifest.json        see fgssl.store.manifest
    <split>-00000.h5     images      (bytes,) uint8, contiguous: every encoded image, one after the other
                         offsets     (n + 1,) int64: image i is images[offsets[i]:offsets[i + 1]]
                         labels      (n, L) int64, finest level first; L is 0 for unlabeled images
                         source_ids  (n,) UTF-8: origin of each image
                         groups      (n,) int64: images of one group stay on one side of a validation split
                         attributes/<name>  (n,) float64: one recorded attribute of each image

Packing permutes the images once, so that neighbors in a shard are not neighbors in the source.
"""

import bisect
import itertools
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fgssl.data.decoding import decode
from fgssl.errors import DataError
from fgssl.store.manifest import Level, Manifest, Shard


class ShardedSplit:
    """One split of a packed dataset, read image by image.

    Opening reads everything but the images, and raises a `DataError` unless the manifest, the shards' sizes and the
    extents of their datasets agree. No HDF5 handle is kept: `read` is a `pread` at a fixed offset, which is safe over
    forks and threads.
    """

    labels: NDArray[np.int64]
    """Classes (n, L), finest level first."""
    groups: NDArray[np.int64]
    """Group (n,) of each image; images of one group stay on one side of a validation split."""
    source_ids: NDArray[np.str_]
    """Origin (n,) of each image."""
    attributes: dict[str, NDArray[np.float64]]
    """Recorded attributes by name, (n,) each."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.manifest = Manifest.read(folder)
        if split not in self.manifest.splits:
            raise DataError(f"{folder}: has no split {split!r}; it has {', '.join(self.manifest.splits)}")
        self._shards = self.manifest.splits[split]
        tables = [_read_table(folder / shard.file, shard, len(self.levels)) for shard in self._shards]
        self.labels = np.concatenate([table.labels for table in tables])
        self.groups = np.concatenate([table.groups for table in tables])
        self.source_ids = np.concatenate([table.source_ids for table in tables])
        self.attributes = {
            name: np.concatenate([table.attributes[name] for table in tables]) for name in tables[0].attributes
        }
        self._offsets = [table.offsets for table in tables]  # bytes from the start of each shard's file
        self._first_rows = list(itertools.accumulate((shard.count for shard in self._shards), initial=0))
        self._descriptors: list[int] = []
        weakref.finalize(self, _close, self._descriptors)
        for shard in self._shards:
            self._descriptors.append(os.open(folder / shard.file, os.O_RDONLY | os.O_CLOEXEC))

    def __len__(self) -> int:
        return self._first_rows[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.split)  # another process opens its own descriptors

    @property
    def levels(self) -> list[Level]:
        """Names and classes of the label levels, finest first."""
        return list(self.manifest.levels)

    @property
    def version(self) -> str:
        """Version of the whole dataset with all its splits."""
        return self.manifest.version

    def read(self, row: int) -> bytes:
        """Return the encoded image of one row."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        shard = bisect.bisect_right(self._first_rows, row) - 1
        place = row - self._first_rows[shard]
        start, end = self._offsets[shard][place : place + 2].tolist()
        image = os.pread(self._descriptors[shard], end - start, start)
        if len(image) != end - start:
            path = self.folder / self._shards[shard].file
            raise DataError(
                f"{path}: row {row} has {len(image)} of {end - start} bytes: the file was truncated after it was "
                "opened; pack the dataset again"
            )
        return image

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """Return the upright RGB image (H, W, 3) of one row; raise an `OSError` or `ValueError` if it is damaged."""
        return decode(self.read(row))


@dataclass(frozen=True)
class _Table:
    """Content of one shard, except its images; `offsets` count from the start of its file."""

    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    source_ids: NDArray[np.str_]
    attributes: dict[str, NDArray[np.float64]]


def _read_table(path: Path, shard: Shard, levels: int) -> _Table:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: shard cannot be read: {error.strerror}; pack the dataset again") from None
    if size != shard.bytes:
        raise DataError(f"{path}: shard has {size} bytes, but {shard.bytes} in the manifest: pack the dataset again")
    try:
        with h5py.File(path, "r", locking=False) as file:  # locks fail on some cluster file systems
            images, offsets = file["images"], file["offsets"][:]
            start = images.id.get_offset()  # None if the dataset is not contiguous
            if start is None or offsets.shape != (shard.count + 1,) or images.shape != (offsets[-1],):
                raise ValueError("datasets do not fit the manifest")
            if start + images.shape[0] > size or file["labels"].shape != (shard.count, levels):
                raise ValueError("datasets do not fit the manifest")
            return _Table(
                offsets=start + offsets,
                labels=file["labels"][:],
                groups=file["groups"][:],
                source_ids=np.array([os.fsdecode(name) for name in file["source_ids"][:]]),
                attributes={name: dataset[:] for name, dataset in file["attributes"].items()},
            )
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: shard is damaged ({error}): pack the dataset again") from None


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
