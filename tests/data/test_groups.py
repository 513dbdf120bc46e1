"""Number of classes with images in several groups, which the manifest records."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fgssl.data.groups import classes_across_groups
from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.store.manifest import Manifest
from tests.data.photos import SHARD_BYTES, dataset, jpeg


def test_classes_are_counted_at_each_level() -> None:
    labels = np.array([[0, 0], [0, 0], [1, 0], [2, 1], [2, 1], [3, 1]])
    groups = np.array([7, 7, 8, 9, 4, 9])
    assert classes_across_groups(labels, groups) == (1, 2)  # species 2 alone; both genera
    assert classes_across_groups(labels, np.zeros(6, dtype=np.int64)) == (0, 0)


def test_images_without_groups_count_as_none() -> None:
    labels = np.array([[0], [0], [1]])
    assert classes_across_groups(labels, np.array([5, 3, 1])) == (0,)
    assert classes_across_groups(labels, np.array([5, 3, 3])) == (1,)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (folder := tmp_path / "images").mkdir()
    for number in range(60):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    return folder


def test_packing_records_them_over_all_shards(images: Path, tmp_path: Path) -> None:
    manifest = pack(dataset(images), tmp_path / "shards", shard_bytes=SHARD_BYTES)
    assert len(manifest.splits["test"]) > 1
    for split in ("train", "test"):
        packed = ShardedSplit(tmp_path / "shards", split)
        of_class: dict[int, set[int]] = {}
        for (label,), group in zip(packed.labels.tolist(), packed.groups.tolist(), strict=True):
            of_class.setdefault(label, set()).add(group)
        assert manifest.across_groups is not None
        assert manifest.across_groups[split] == (sum(len(groups) > 1 for groups in of_class.values()),) == (2,)
    assert Manifest.read(tmp_path / "shards") == manifest


def test_they_are_no_part_of_the_version(images: Path, tmp_path: Path) -> None:
    manifest = pack(dataset(images), tmp_path / "shards")
    assert replace(manifest, across_groups=None).version == manifest.version
    file = tmp_path / "shards" / "manifest.json"
    content = json.loads(file.read_text())
    del content["across_groups"]  # as in manifests of earlier versions
    file.write_text(json.dumps(content))
    assert Manifest.read(tmp_path / "shards").across_groups is None
