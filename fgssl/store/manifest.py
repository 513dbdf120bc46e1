"""The description of a packed dataset: manifest.json, beside the shards.

Light to import: planning a sweep reads it.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import JsonValue

from fgssl.errors import DataError
from fgssl.progress import Track, silent
from fgssl.store.files import file_sha256

FORMAT = 2
"""Version of manifest and shards; raised when their layout changes."""
MANIFEST = "manifest.json"
LISTED_FAULTS = 20


@dataclass(frozen=True)
class Level:
    """One level of the labels."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    file: str
    count: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    dataset: str
    source: str
    arguments: Mapping[str, JsonValue]
    levels: tuple[Level, ...]
    splits: Mapping[str, tuple[Shard, ...]]
    class_counts: Mapping[str, tuple[tuple[int, ...], ...]]
    """Split -> level, finest first -> number of images of each class."""
    attributes: tuple[str, ...]
    """Names of what is recorded of every image, sorted."""

    @property
    def version(self) -> str:
        """SHA-256 over all of the content: equal data, equal version."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    def count(self, split: str) -> int:
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
        """Return the message about a setting `key` that asks for a level of the labels which is not there."""
        return f"{key}: {level} is not there: {self.listed_levels}; give one of these"

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
        }

    def _check_class_counts(self) -> None:
        """Raise a `ValueError` where they are not one number a class, or do not add up to the split's images."""
        for split, by_level in self.class_counts.items():
            if [len(counts) for counts in by_level] != [len(level.classes) for level in self.levels]:
                raise ValueError(f"class_counts of split {split} do not fit the levels")
            if any(sum(counts) != self.count(split) or min(counts) < 0 for counts in by_level):
                raise ValueError(f"class_counts of split {split} do not add up to its {self.count(split)} images")

    def to_json(self) -> str:
        return json.dumps({**self._content(), "version": self.version}, indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a packed folder; raise a `DataError` that names the file if that fails."""
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text())
            found = content["format"]
            if found != FORMAT:
                raise DataError(f"{path}: has format {found!r}, this fgssl reads {FORMAT}: pack the dataset again")
            manifest = cls(
                dataset=content["dataset"],
                source=content["source"],
                arguments=content["arguments"],
                levels=tuple(Level(level["name"], tuple(level["classes"])) for level in content["levels"]),
                splits={
                    name: tuple(Shard(**shard) for shard in split["shards"])
                    for name, split in content["splits"].items()
                },
                class_counts={
                    name: tuple(tuple(counts) for counts in split["class_counts"])
                    for name, split in content["splits"].items()
                },
                attributes=tuple(content["attributes"]),
            )
            manifest._check_class_counts()
            stated = content["version"]
        except FileNotFoundError:
            raise DataError(f"{folder}: no packed dataset ({MANIFEST} is missing): pack it with `fgssl pack`") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: cannot be read as a manifest ({error!r}): pack the dataset again") from None
        if stated != manifest.version:
            raise DataError(
                f"{path}: its version {stated!r} does not fit its content ({manifest.version}): it was changed "
                "after packing; pack the dataset again"
            )
        return manifest


def verify(folder: Path, track: Track = silent) -> Manifest:
    """Recompute the SHA-256 of every shard; a `DataError` lists all that are missing or damaged."""
    manifest = Manifest.read(folder)
    faults = []
    shards = list(itertools.chain.from_iterable(manifest.splits.values()))
    with track(f"verify {folder}", len(shards), "shards") as advance:
        for shard in shards:
            try:
                if (found := file_sha256(folder / shard.file)) != shard.sha256:
                    faults.append(f"{folder / shard.file}: SHA-256 is {found}, the manifest says {shard.sha256}")
            except OSError as error:
                faults.append(f"{folder / shard.file}: cannot be read: {error.strerror}")
            advance(1)
    if faults:
        raise DataError(listed(faults, "damaged shard", "damaged shards") + "\npack the dataset again")
    return manifest


def listed(faults: Sequence[str], one: str, many: str) -> str:
    """Return `3 <many>:` and the faults, a line each, `LISTED_FAULTS` at most."""
    lines = [f"{len(faults)} {one if len(faults) == 1 else many}:", *faults[:LISTED_FAULTS]]
    if len(faults) > LISTED_FAULTS:
        lines.append(f"... and {len(faults) - LISTED_FAULTS} more")
    return "\n  ".join(lines)
