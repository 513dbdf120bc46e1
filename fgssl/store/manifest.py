"""Description of a packed dataset, in manifest.json beside the shards.

Planning a sweep reads it, so this module imports nothing heavy.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import JsonValue

from fgssl.errors import DataError, alternatives
from fgssl.progress import Track, silent
from fgssl.store.files import file_sha256, unreadable

FORMAT = 2
"""Version of the layout of manifest and shards; raised when it changes."""
MANIFEST = "manifest.json"
LISTED_FAULTS = 20
"""Most faults that one message lists."""


@dataclass(frozen=True)
class Level:
    """Level of the labels, such as species or genus, with the names of its classes."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """File of packed images."""

    file: str
    count: int
    """Number of images."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Content of manifest.json."""

    dataset: str
    source: str
    arguments: Mapping[str, JsonValue]
    levels: tuple[Level, ...]
    splits: Mapping[str, tuple[Shard, ...]]
    class_counts: Mapping[str, tuple[tuple[int, ...], ...]]
    """Number of images of each class, by split and then by level, finest first."""
    attributes: tuple[str, ...]
    """Names of the attributes that are recorded for every image, sorted."""
    remarks: tuple[str, ...] = ()
    """Remarks of packing on the images, such as equal images of two splits; they are no part of the version."""
    across_groups: Mapping[str, tuple[int, ...]] | None = None
    """Number of classes with images in several groups, by split and then by level; 0 if no group has two images. None
    if the dataset was packed before this was recorded. It follows from the shards, so it is no part of the version."""
    masks: bool = False
    """Whether every image has a mask of its object."""

    @property
    def version(self) -> str:
        """SHA-256 over all of the content but the remarks and the groups, so that equal data have an equal version."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    def count(self, split: str) -> int:
        """Return the number of images in a split."""
        return sum(shard.count for shard in self.splits[split])

    @property
    def title(self) -> str:
        """The dataset's name, as messages give it."""
        return f"dataset {self.dataset!r}"

    @property
    def listed_levels(self) -> str:
        """The dataset and its label levels, as messages give them."""
        listed = ", ".join(f"{level} ({named.name})" for level, named in enumerate(self.levels))
        number = len(self.levels)
        return f"{self.title} has {number} label {'level' if number == 1 else 'levels'}: {listed}"

    def no_level(self, key: str, level: int) -> str:
        """Return the message about a setting `key` whose value is a label level that the dataset does not have."""
        return f"{key}: there is no level {level}: {self.listed_levels}: give one of these"

    def _content(self) -> dict[str, Any]:
        splits = {
            name: {
                "count": self.count(name),
                "class_counts": [list(counts) for counts in self.class_counts[name]],
                "shards": [asdict(shard) for shard in shards],
            }
            for name, shards in self.splits.items()
        }
        levels = [asdict(level) for level in self.levels]
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "source": self.source,
            "arguments": dict(self.arguments),
            "levels": levels,
            "attributes": list(self.attributes),
            "splits": splits,
            **({"masks": True} if self.masks else {}),  # datasets without masks keep their versions
        }

    def _check_class_counts(self) -> None:
        """Raise a `ValueError` if they are not one number per class, or do not add up to the images of the split."""
        for split, by_level in self.class_counts.items():
            if [len(counts) for counts in by_level] != [len(level.classes) for level in self.levels]:
                raise ValueError(f"class_counts of split {split} do not fit the levels")
            if any(sum(counts) != self.count(split) or min(counts) < 0 for counts in by_level):
                raise ValueError(f"class_counts of split {split} do not add up to its {self.count(split)} images")

    def to_json(self) -> str:
        """Return the content of manifest.json, with its version, the remarks and the groups."""
        beside = {"version": self.version, "remarks": self.remarks, "across_groups": self.across_groups}
        return json.dumps({**self._content(), **beside}, indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a packed folder; raise a `DataError` if it is missing, damaged or of another format."""
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = content["format"]
            if found != FORMAT:
                raise DataError(
                    f"{path}: format is {found!r}, but this version of fgssl reads {FORMAT}: pack the dataset again"
                )
            manifest = cls(
                dataset=content["dataset"],
                source=content["source"],
                arguments=content["arguments"],
                levels=tuple(Level(level["name"], tuple(level["classes"])) for level in content["levels"]),
                splits={name: _shards(split["shards"]) for name, split in content["splits"].items()},
                class_counts={
                    name: tuple(map(tuple, split["class_counts"])) for name, split in content["splits"].items()
                },
                attributes=tuple(content["attributes"]),
                remarks=tuple(content.get("remarks", ())),
                across_groups=_as_tuples(content.get("across_groups")),
                masks=content.get("masks", False),
            )
            manifest._check_class_counts()
            stated = content["version"]
        except FileNotFoundError:
            if not folder.exists():
                raise DataError(f"{folder}: does not exist: {alternatives(folder)}") from None
            raise DataError(f"{folder}: no packed dataset ({MANIFEST} is missing): pack it with `fgssl pack`") from None
        except OSError as error:
            raise DataError(unreadable(path, error)) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: cannot be read as a manifest ({error!r}): pack the dataset again") from None
        if stated != manifest.version:
            raise DataError(
                f"{path}: version {stated!r} does not fit the content ({manifest.version}), which was changed after "
                "packing: pack the dataset again"
            )
        return manifest


def _shards(given: Sequence[Mapping[str, Any]]) -> tuple[Shard, ...]:
    return tuple(Shard(**shard) for shard in given)


def _as_tuples(lists: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]] | None:
    return None if lists is None else {key: tuple(values) for key, values in lists.items()}


def verify(folder: Path, track: Track = silent, workers: int = 1) -> Manifest:
    """Recompute the SHA-256 of every shard in so many threads.

    Raises:
        DataError: Shards are missing or damaged; the message lists them all.
    """
    manifest = Manifest.read(folder)
    faults = []
    shards = list(itertools.chain.from_iterable(manifest.splits.values()))
    with track(f"verify {folder}", len(shards), "shards") as advance, ThreadPoolExecutor(workers) as executor:
        for fault in executor.map(lambda shard: _fault(folder / shard.file, shard), shards):
            faults += [fault] * bool(fault)
            advance(1)
    if faults:
        raise DataError(listed(faults, "damaged shard", "damaged shards") + "\npack the dataset again")
    return manifest


def _fault(path: Path, shard: Shard) -> str:
    """Return what is wrong with the file of a shard, or an empty string."""
    try:
        found = file_sha256(path)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}"
    return "" if found == shard.sha256 else f"{path}: SHA-256 is {found}, but {shard.sha256} in the manifest"


def listed(faults: Sequence[str], one: str, many: str) -> str:
    """Return a headline such as `3 damaged shards:` and the faults, one line each, `LISTED_FAULTS` at most."""
    lines = [f"{len(faults)} {one if len(faults) == 1 else many}:", *faults[:LISTED_FAULTS]]
    if len(faults) > LISTED_FAULTS:
        lines.append(f"... and {len(faults) - LISTED_FAULTS} more")
    return "\n  ".join(lines)
