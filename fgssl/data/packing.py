"""Writing of a packed dataset, whose layout `fgssl.data.shards` describes."""

import contextlib
import hashlib
import json
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import JsonValue

from fgssl.data.groups import classes_across_groups
from fgssl.data.masks import MaskFolder
from fgssl.data.packing_folder import (
    DestinationExistsError,
    PackingFolder,
    PackingInProgressError,
    ShardRecord,
    combined,
    refuse_existing,
    shards,
    source_of,
    write,
    writing,
)
from fgssl.data.packing_remarks import (
    ClassCounts,
    FindingCounts,
    contradictions,
    count_findings,
    equal_images,
    merged,
    remarks_on,
    remarks_on_left_out,
    shortened,
)
from fgssl.data.prepared_image import PreparedImage, batches, prepared
from fgssl.data.shard_content import finest_labels, labels_and_groups, shard_content, source_id
from fgssl.data.source import Sample, SourceDataset
from fgssl.errors import DataError
from fgssl.progress import Advance, Track, silent
from fgssl.randomness import permutation
from fgssl.settings.packing import PackingSettings
from fgssl.store.manifest import FORMAT, MANIFEST, Level, Manifest, Shard, listed
from fgssl.store.provenance import code_version, versions

__all__ = ["DestinationExistsError", "PackingInProgressError", "pack"]

IMAGES_PER_TASK = 8
TASKS_AHEAD = 4
"""Tasks per thread that are under way or wait to be written; they bound the memory."""
DEFAULTS = PackingSettings()
_DECIDING = ("numpy", "pillow", "h5py", "opencv-python-headless", "simplejpeg")
"""Libraries that decide the bytes of shards."""
_UNREADABLE = ("image that cannot be packed", "images that cannot be packed")

Remark = Callable[[str], object]
"""Function that takes one remark for the user."""
T = TypeVar("T")
R = TypeVar("R")


def pack(
    dataset: SourceDataset,
    destination: Path,
    settings: PackingSettings = DEFAULTS,
    *,
    shard_bytes: int = 128 * 2**20,
    track: Track = silent,
    remark: Remark = lambda text: None,
) -> Manifest:
    """Write `dataset` into the new folder `destination`; a reader sees all of it or nothing.

    A shard is closed before its images would exceed `shard_bytes`. The shards do not depend on the number of threads,
    which is one unless the settings give it. After any error, an interruption or a kill, finished shards remain beside
    the destination, and packing the same images again goes on after them.

    Raises:
        DestinationExistsError: The folder exists and is not empty.
        PackingInProgressError: Another process packs into this folder.
        DataError: Images are unreadable (all are listed), a split is empty, or the folder cannot be written.
    """
    for split, recipes in dataset.splits.items():
        if not recipes:
            raise DataError(f"dataset {dataset.name}: split {split} has no images")
    destination = destination.absolute()
    refuse_existing(destination)
    masks = None if settings.masks is None else MaskFolder.listed(Path(settings.masks).expanduser())
    if not dataset.drawn:
        arguments = {**dataset.arguments, **settings.arguments}
        dataset = replace(dataset, arguments=arguments, masked=masks is not None)
    with PackingFolder(destination, _plan(dataset, shard_bytes, masks), remark) as folder, _libraries_set():
        packing = _Packing(dataset, settings, folder, shard_bytes, masks)
        packing.resume(remark)
        for split in dataset.splits:
            packing.pack(split, track)
        if packing.unreadable:
            raise DataError(_refusal(packing.unreadable))
        manifest = packing.manifest()
        with writing(destination):
            write(folder.shards / MANIFEST, manifest.to_json().encode())
        folder.publish()
    for text in manifest.remarks:
        remark(shortened(text))
    return manifest


def _refusal(unreadable: Sequence[PreparedImage]) -> str:
    """Return the message about images that cannot be packed, with advice."""
    advice = "replace them, or give unreadable=drop to pack all other images"
    if any(each.unread for each in unreadable):
        advice = (
            "unreadable=drop never leaves out files that are missing or that the system does not read: restore or "
            "remove these, then give the same command again"
        )
    return f"{listed(sorted(each.fault for each in unreadable), *_UNREADABLE)}\n{advice}"


def _plan(dataset: SourceDataset, shard_bytes: int, masks: MaskFolder | None) -> dict[str, JsonValue]:
    """Return all that decides the shards, except the images themselves, by the name that a remark gives it."""
    levels = json.dumps([asdict(level) for level in dataset.levels]).encode()
    return {
        "the format of shards": FORMAT,
        "the version of fgssl": code_version(),
        **{f"the version of {name}": version for name, version in versions().items() if name in _DECIDING},
        "the size of shards": shard_bytes,
        "the name": dataset.name,
        "the source": dataset.source,
        "seed": dataset.seed,
        **dataset.arguments,
        "the SHA-256 of the classes": hashlib.sha256(levels).hexdigest(),
        "the SHA-256 of the masks' names, sizes and times": masks.state if masks else None,
        **{f"the number of images in {split}": len(recipes) for split, recipes in dataset.splits.items()},
    }


@contextlib.contextmanager
def _libraries_set() -> Iterator[None]:
    """Adapt the libraries of the process to packing within the context.

    Pillow is silent about damaged Exif blocks, which become remarks, and about sizes, which the settings limit. OpenCV
    starts no threads of its own, since each thread of packing works on one image.
    """
    limit, threads = Image.MAX_IMAGE_PIXELS, cv2.getNumThreads()
    Image.MAX_IMAGE_PIXELS = None
    cv2.setNumThreads(0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
        cv2.setNumThreads(threads)


class _Packing:
    """Shards written so far, and the numbers that the next ones continue."""

    def __init__(
        self,
        dataset: SourceDataset,
        settings: PackingSettings,
        folder: PackingFolder,
        shard_bytes: int,
        masks: MaskFolder | None,
    ) -> None:
        self._dataset, self._settings, self._folder, self._shard_bytes = dataset, settings, folder, shard_bytes
        self._masks = masks
        self._orders = {
            split: permutation(dataset.seed, f"pack/{split}", length=len(recipes)).tolist()
            for split, recipes in dataset.splits.items()
        }
        self._records: list[ShardRecord] = []
        self._group_numbers: dict[str, int] = {}
        self._num_groups = 0
        self.unreadable: list[PreparedImage] = []
        """Images that cannot be packed and are not left out; once there is one, no further shard is written."""

    def resume(self, remark: Remark) -> None:
        """Take over the finished shards of an interrupted packing whose source files have not changed."""
        reason, limit = "they are damaged", self._settings.max_megapixels
        for record in self._folder.finished():
            start, recipes = self._done(record.split), self._dataset.splits[record.split]
            rows = self._orders[record.split][start : start + record.shard.count + len(record.left_out)]
            sources = in_order(source_of, [recipes[row] for row in rows], self._workers)
            if combined(list(sources)) != record.made_of:
                reason = "the files of their images have changed"
                break
            if record.left_out and self._settings.unreadable == "refuse":
                reason = "unreadable images were left out of them"
                break
            if limit < record.max_megapixels or (record.left_out and limit != record.max_megapixels):
                reason = f"max_megapixels was {record.max_megapixels:g} and is {limit:g}"
                break
            self._take(record)
        if self._folder.discarded:
            remark(self._folder.discarded)
        discarded = self._folder.discard_after(self._records)
        if number := len(self._records):
            remark(f"goes on after {shards(number)} of an interrupted packing")
        if discarded:
            remark(f"packs {shards(discarded)} of an interrupted packing again, since {reason}")

    def pack(self, split: str, track: Track) -> None:
        """Write the shards of one split that are not finished yet."""
        recipes, start = self._dataset.splits[split], self._done(split)
        with track(f"pack {split}", len(recipes), "images") as advance:
            advance(start)
            rows, drawn = self._orders[split][start:], self._dataset.drawn
            settings, masks = self._settings, self._masks
            images = in_order(lambda row: prepared(recipes[row], settings, drawn, masks), rows, self._workers)
            for batch in batches(self._readable(images, advance), self._shard_bytes):
                if not self.unreadable:  # otherwise it ends early, at an unreadable image
                    self._write(split, batch)

    @property
    def _workers(self) -> int:
        return self._settings.workers or 1

    def _done(self, split: str) -> int:
        return sum(record.shard.count + len(record.left_out) for record in self._records if record.split == split)

    def _readable(self, images: Iterable[PreparedImage], advance: Advance) -> Iterator[PreparedImage]:
        for each in images:
            advance(1)
            if each.unread or (each.fault and self._settings.unreadable == "refuse"):
                self.unreadable.append(each)
            elif not self.unreadable:  # otherwise nothing will be packed, and only further unreadable images matter
                yield each

    def _write(self, split: str, batch: Sequence[PreparedImage]) -> None:
        left_out = tuple(each.fault for each in batch if each.fault)
        samples = [each.sample for each in batch if each.sample is not None]
        if not samples and not self._done(split):
            raise DataError(f"split {split}: no image is left: {listed(left_out, *_UNREADABLE)}")
        if not samples:  # they follow the shards of an interrupted packing
            number = max(number for number, record in enumerate(self._records) if record.split == split)
            last = self._records[number]
            self._records[number] = replace(last, left_out=(*last.left_out, *left_out))
            return
        attributes = self._records[0].attributes if self._records else tuple(samples[0].attributes)
        for sample in samples:
            _check(sample, self._dataset, attributes)
        groups, new_groups, num_groups = self._grouped(samples)
        name = f"{split}-{sum(record.split == split for record in self._records):05d}.h5"
        with ThreadPoolExecutor(1) as apart:  # in the main thread, h5py's weak references swallow a KeyboardInterrupt
            content = apart.submit(shard_content, name, samples, groups, attributes).result()
        record = ShardRecord(
            split=split,
            shard=Shard(name, len(samples), len(content), hashlib.sha256(content).hexdigest()),
            made_of=combined([each.made_of for each in batch]),
            class_counts=_class_counts(samples, self._dataset.levels),
            attributes=attributes,
            groups=new_groups,
            num_groups=num_groups,
            findings=count_findings((each.sample.source_id, each.findings) for each in batch if each.sample),
            digests=b"".join(each.digest for each in batch).hex(),
            left_out=left_out,
            max_megapixels=self._settings.max_megapixels,
        )
        self._folder.add(len(self._records), record, content)
        self._take(record)

    def _grouped(self, samples: Sequence[Sample]) -> tuple[list[int], dict[str, int], int]:
        """Return the group of each sample, the numbers of new names of groups, and the number of groups so far."""
        groups, new_groups, num_groups = [], dict[str, int](), self._num_groups
        for sample in samples:
            number = self._group_numbers.get(sample.group, new_groups.get(sample.group, num_groups))
            groups.append(number)
            if number == num_groups:
                num_groups += 1
                if sample.group:
                    new_groups[sample.group] = number
        return groups, new_groups, num_groups

    def _take(self, record: ShardRecord) -> None:
        self._records.append(record)
        self._group_numbers.update(record.groups)
        self._num_groups = record.num_groups

    def manifest(self) -> Manifest:
        """Return the manifest of all shards."""
        splits = {split: [each for each in self._records if each.split == split] for split in self._dataset.splits}
        class_counts = {
            split: tuple(
                tuple(map(sum, zip(*by_shard, strict=True)))
                for by_shard in zip(*(record.class_counts for record in records), strict=True)
            )
            for split, records in splits.items()
        }
        return Manifest(
            dataset=self._dataset.name,
            source=self._dataset.source,
            arguments=self._dataset.arguments,
            levels=self._dataset.levels,
            splits={split: tuple(record.shard for record in records) for split, records in splits.items()},
            class_counts=class_counts,
            attributes=tuple(sorted(self._records[0].attributes)),
            remarks=tuple(self._remarks(class_counts)),
            across_groups={split: self._across_groups(records) for split, records in splits.items()},
            masks=self._dataset.masked,
        )

    def _across_groups(self, records: Sequence[ShardRecord]) -> tuple[int, ...]:
        """Return the number of classes of each level with images in several groups, or zeros if there are no groups."""
        tables = [labels_and_groups(self._folder.shards / record.shard.file) for record in records]
        labels, groups = (np.concatenate(parts) for parts in zip(*tables, strict=True))
        return classes_across_groups(labels, groups)

    def _remarks(self, class_counts: ClassCounts) -> list[str]:
        """Return remarks on the images for the user."""
        findings: FindingCounts = {}
        digests = {split: b"" for split in self._dataset.splits}
        for record in self._records:
            findings = merged(findings, record.findings)
            digests[record.split] += bytes.fromhex(record.digests)
        left_out = sorted(fault for record in self._records for fault in record.left_out)
        remarks = remarks_on_left_out(left_out, class_counts, self._dataset.levels) if left_out else []
        remarks += [*remarks_on(findings), *equal_images(digests, self._source_id)]
        if self._dataset.levels:
            remarks += contradictions(b"".join(digests.values()), self._finest_labels, self._labeled_source_id)
        return remarks

    def _finest_labels(self) -> NDArray[np.int64]:
        return np.concatenate([finest_labels(self._folder.shards / record.shard.file) for record in self._records])

    def _labeled_source_id(self, row: int) -> str:
        """Return the origin and the finest class of an image, by its place among those of all splits."""
        for record in self._records:
            if row < record.shard.count:
                path = self._folder.shards / record.shard.file
                return f"{source_id(path, row)} ({self._dataset.levels[0].classes[finest_labels(path)[row]]})"
            row -= record.shard.count
        raise IndexError(row)

    def _source_id(self, split: str, row: int) -> str:
        for record in self._records:
            if record.split == split:
                if row < record.shard.count:
                    return source_id(self._folder.shards / record.shard.file, row)
                row -= record.shard.count
        raise IndexError(row)


def in_order(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Yield the function's value of each item, in order, computed by so many threads, a bounded number ahead."""

    def task(chunk: Sequence[T]) -> list[R]:
        return [function(item) for item in chunk]

    ahead: deque[Future[list[R]]] = deque()
    executor = ThreadPoolExecutor(workers)
    try:
        for start in range(0, len(items), IMAGES_PER_TASK):
            ahead.append(executor.submit(task, items[start : start + IMAGES_PER_TASK]))
            if len(ahead) > TASKS_AHEAD * workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def _class_counts(samples: Sequence[Sample], levels: Sequence[Level]) -> tuple[tuple[int, ...], ...]:
    """Return the number of images of each class at each level."""
    counts = [[0] * len(level.classes) for level in levels]
    for sample in samples:
        for of_level, label in zip(counts, sample.labels, strict=True):
            of_level[label] += 1
    return tuple(map(tuple, counts))


def _check(sample: Sample, dataset: SourceDataset, attributes: Sequence[str]) -> None:
    """Raise a `ValueError` if the sample does not fit the dataset, or has other attributes than the first one."""
    levels = dataset.levels
    fits = len(sample.labels) == len(levels) and all(
        0 <= label < len(level.classes) for label, level in zip(sample.labels, levels, strict=True)
    )
    fits = fits and (sample.mask is not None) == dataset.masked
    if not (fits and sample.image and sample.source_id) or sample.attributes.keys() != set(attributes):
        raise ValueError(
            f"{sample.source_id!r}: image, labels {sample.labels}, mask or attributes do not fit the dataset"
        )
