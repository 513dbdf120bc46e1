"""Image files with the names of their classes, from which sources make levels and samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fgssl.data.source import Sample
from fgssl.data.sources.encoded_image import file_sample
from fgssl.store.manifest import Level

Splits = Mapping[str, Sequence["LabeledFile"]]
"""Image files by the name of their split."""


@dataclass(frozen=True, slots=True)  # there may be millions
class LabeledFile:
    """One image file and its classes."""

    path: Path
    source_id: str
    classes: tuple[str, ...]
    """One class name per level, finest first; empty if unlabeled."""
    group: str = ""
    attributes: Mapping[str, float] = field(default_factory=dict)


def levels(names: Sequence[str], splits: Splits) -> tuple[Level, ...]:
    """Return the levels, finest first, with all classes of the files in order; whole numbers are ordered as such."""
    classes: list[set[str]] = [set() for _ in names]
    for files in splits.values():
        for file in files:
            for known, name in zip(classes, file.classes, strict=True):
                known.add(name)
    return tuple(Level(name, tuple(_in_order(known))) for name, known in zip(names, classes, strict=True))


def _in_order(names: set[str]) -> list[str]:
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))


def without_images(splits: Splits, finest: Sequence[Level]) -> list[str]:
    """Return one fault for each class of the finest level, if there is one, and each split that has none of it."""
    return [
        f"class {name}: no images in {split}"
        for split, files in splits.items()
        for level in finest
        for name in sorted(set(level.classes) - {file.classes[0] for file in files})
    ]


ReadFile = Callable[[LabeledFile, tuple[int, ...]], Sample]
"""Function that makes a sample of a file and its labels."""


def samples(
    files: Sequence[LabeledFile], levels: Sequence[Level], read: ReadFile | None = None
) -> list[partial[Sample]]:
    """Return the functions that read the files, as a `SourceDataset` holds them."""
    numbers = [{name: number for number, name in enumerate(level.classes)} for level in levels]
    return [
        partial(read or _sample, file, tuple(level[name] for level, name in zip(numbers, file.classes, strict=True)))
        for file in files
    ]


def _sample(file: LabeledFile, labels: tuple[int, ...]) -> Sample:
    sample = file_sample(file.path, labels, file.source_id, file.group)
    return replace(sample, attributes=file.attributes) if file.attributes else sample
