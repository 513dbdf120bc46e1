"""manifest.json: reading returns what was written and rejects everything else."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fgssl.errors import DataError
from fgssl.store.manifest import Level, Manifest, Shard

MADE = Manifest(
    dataset="made-up",
    source="test",
    arguments={"seed": 0},
    levels=(Level("species", ("a/x", "a/y", "b/x")), Level("genus", ("a", "b"))),
    splits={
        "train": (Shard("train-0.h5", 4, 1, "0"), Shard("train-1.h5", 5, 1, "1")),
        "test": (Shard("t", 3, 1, "2"),),
    },
    class_counts={"train": ((2, 3, 4), (5, 4)), "test": ((1, 2, 0), (3, 0))},
    attributes=("light", "pose"),
)


def write(folder: Path, change: dict[str, Any]) -> None:
    """Write the manifest above with a change to its JSON."""
    (folder / "manifest.json").write_text(json.dumps(json.loads(MADE.to_json()) | change))


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    write(tmp_path, {})
    assert Manifest.read(tmp_path) == MADE
    assert (MADE.count("train"), MADE.count("test")) == (9, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"class_counts": {**MADE.class_counts, "test": ((2, 1, 0), (3, 0))}},
        {"attributes": ("light",)},
        {"levels": (MADE.levels[0], Level("genus", ("a", "c")))},
        {"arguments": {"seed": 1}},
    ],
)
def test_version_covers_all_of_it(change: dict[str, Any]) -> None:
    assert dataclasses.replace(MADE, **change).version != MADE.version


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2, "splits": []}'])
def test_broken_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read as a manifest"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dataset", "other", "was changed after packing"),
        ("attributes", ["light"], "was changed after packing"),
        ("format", 1, "format is 1, but this version of fgssl reads 2: pack the dataset again"),
    ],
)
def test_changed_manifest(tmp_path: Path, key: str, value: object, message: str) -> None:
    write(tmp_path, {key: value})
    with pytest.raises(DataError, match=message):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[1, 2, 0]], "class_counts of split test do not fit the levels"),
        ([[1, 2], [3, 0]], "class_counts of split test do not fit the levels"),
        ([[1, 2, 1], [3, 0]], "class_counts of split test do not add up to its 3 images"),
        ([[4, -1, 0], [3, 0]], "class_counts of split test do not add up to its 3 images"),
        (None, "TypeError"),
        ([["1", 2, 0], [3, 0]], "TypeError"),
    ],
)
def test_class_counts_that_cannot_be(tmp_path: Path, counts: object, message: str) -> None:
    splits = json.loads(MADE.to_json())["splits"]
    splits["test"]["class_counts"] = counts
    write(tmp_path, {"splits": splits})
    with pytest.raises(DataError, match=rf"manifest\.json: cannot be read as a manifest .*{message}"):
        Manifest.read(tmp_path)
