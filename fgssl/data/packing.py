"""Writing of a packed dataset, whose layout `fgssl.data.shards` describes."""

import contextlib
import hashlib
import itertools
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from fgssl.data.source import Sample, SourceDataset, UnreadableImageError
from fgssl.errors import DataError
from fgssl.progress import Advance, Track, silent
from fgssl.randomness import permutation
from fgssl.store.manifest import MANIFEST, Level, Manifest, Shard, listed


class DestinationExistsError(DataError):
    """Destination of `pack` that exists already."""


def pack(
    dataset: SourceDataset, destination: Path, *, shard_bytes: int = 128 * 2**20, track: Track = silent
) -> Manifest:
    """Write `dataset` into the new folder `destination`; a reader sees all of it or nothing.

    A shard is closed before its images would exceed `shard_bytes`. After an error nothing is left behind.

    Raises:
        DestinationExistsError: The folder exists and is not empty.
        DataError: Images are unreadable (all are listed), a split is empty, or the folder cannot be written.
    """
    destination = destination.absolute()
    _refuse_existing(destination)
    temporary = destination.with_name(f".{destination.name}.packing-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        with _writing(destination):
            temporary.mkdir(parents=True)
        unreadable: list[str] = []
        group_numbers: dict[str, int] = {}
        splits: dict[str, tuple[Shard, ...]] = {}
        class_counts: dict[str, tuple[tuple[int, ...], ...]] = {}
        first: Sample | None = None
        for split, recipes in dataset.splits.items():
            if not recipes:
                raise DataError(f"dataset {dataset.name}: split {split} has no images")
            shards: list[Shard] = []
            counts = [[0] * len(level.classes) for level in dataset.levels]
            with track(f"pack {split}", len(recipes), "images") as advance:
                for batch in _batches(_permuted(recipes, dataset.seed, split, unreadable, advance), shard_bytes):
                    path = temporary / f"{split}-{len(shards):05d}.h5"
                    first = first or batch[0]
                    content = _shard(path.name, batch, dataset.levels, first, group_numbers)
                    with _writing(destination):
                        _write(path, content)
                    shards.append(Shard(path.name, len(batch), len(content), hashlib.sha256(content).hexdigest()))
                    _count(batch, counts)
            splits[split], class_counts[split] = tuple(shards), tuple(map(tuple, counts))
        if unreadable:
            raise DataError(listed(sorted(unreadable), "image that cannot be packed", "images that cannot be packed"))
        manifest = Manifest(
            dataset=dataset.name,
            source=dataset.source,
            arguments=dataset.arguments,
            levels=dataset.levels,
            splits=splits,
            class_counts=class_counts,
            attributes=() if first is None else tuple(sorted(first.attributes)),
        )
        return _publish(temporary, manifest, destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _count(batch: Sequence[Sample], counts: list[list[int]]) -> None:
    """Add the images of `batch` to `counts`, the number of images of each class at each level."""
    for sample in batch:
        for of_level, label in zip(counts, sample.labels, strict=True):
            of_level[label] += 1


def _publish(temporary: Path, manifest: Manifest, destination: Path) -> Manifest:
    """Write the manifest, the last of all files, give the folder its final name, and return the manifest."""
    with _writing(destination):
        _write(temporary / MANIFEST, manifest.to_json().encode())
        try:
            temporary.rename(destination)
        except OSError:
            _refuse_existing(destination)  # another process was faster
            raise
    return manifest


def _refuse_existing(destination: Path) -> None:
    with _writing(destination):
        if destination.is_dir() and not any(destination.iterdir()):
            return
        exists = destination.exists() or destination.is_symlink()
    if exists:
        raise DestinationExistsError(
            f"{destination}: exists already and is never overwritten: choose another folder, or remove it first"
        )


@contextlib.contextmanager
def _writing(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{destination}: cannot be written ({error.strerror or error}); free space, correct the permissions, or "
            "choose another folder"
        ) from error


def _permuted(
    recipes: Sequence[Callable[[], Sample]], seed: int, split: str, unreadable: list[str], advance: Advance
) -> Iterator[Sample]:
    for row in permutation(seed, f"pack/{split}", length=len(recipes)):
        advance(1)
        try:
            sample = recipes[int(row)]()
        except UnreadableImageError as error:
            unreadable.append(str(error))
            continue
        if not unreadable:  # otherwise nothing will be packed, and only further unreadable images matter
            yield sample


def _batches(samples: Iterator[Sample], shard_bytes: int) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    size = 0
    for sample in samples:
        if batch and size + len(sample.image) > shard_bytes:
            yield batch
            batch, size = [], 0
        batch.append(sample)
        size += len(sample.image)
    if batch:
        yield batch


def _shard(
    name: str, samples: Sequence[Sample], levels: Sequence[Level], first: Sample, group_numbers: dict[str, int]
) -> bytes:
    """Return the content of an HDF5 file, made in memory: on a full disk HDF5 would crash the process."""
    for sample in samples:
        _check(sample, levels, first)
    offsets = np.cumsum([0, *(len(sample.image) for sample in samples)], dtype=np.int64)
    own_group = (f"\0{number}" for number in itertools.count(len(group_numbers)))  # no name begins with NUL
    groups = [group_numbers.setdefault(sample.group or next(own_group), len(group_numbers)) for sample in samples]
    source_ids = [os.fsencode(sample.source_id) for sample in samples]
    labels = np.array([sample.labels for sample in samples], dtype=np.int64).reshape(len(samples), len(levels))
    with h5py.File(name, "w", driver="core", backing_store=False) as file:
        images = file.create_dataset("images", shape=(int(offsets[-1]),), dtype=np.uint8)
        images[:] = np.frombuffer(b"".join(sample.image for sample in samples), dtype=np.uint8)
        file["offsets"] = offsets
        file["labels"] = labels
        file["source_ids"] = np.array(source_ids, dtype=h5py.string_dtype("utf-8", max(map(len, source_ids))))
        file["groups"] = np.array(groups, dtype=np.int64)
        attributes = file.create_group("attributes")
        for attribute in first.attributes:
            attributes[attribute] = np.array([sample.attributes[attribute] for sample in samples], dtype=np.float64)
        file.flush()
        content: bytes = file.id.get_file_image()
        return content


def _check(sample: Sample, levels: Sequence[Level], first: Sample) -> None:
    """Raise a `ValueError` if the sample does not fit the levels, or has other attributes than the `first` one."""
    fits = len(sample.labels) == len(levels) and all(
        0 <= label < len(level.classes) for label, level in zip(sample.labels, levels, strict=True)
    )
    if not (fits and sample.image and sample.source_id) or sample.attributes.keys() != first.attributes.keys():
        raise ValueError(f"{sample.source_id!r}: image, labels {sample.labels} or attributes do not fit the dataset")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
