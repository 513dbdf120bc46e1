"""The folder that packing writes: order, manifest, and what is refused of destinations, samples and disks."""

import dataclasses
import errno
import os
import resource
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgssl.data.packing import DestinationExistsError, PackingInProgressError, pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import Sample, UnreadableImageError
from fgssl.errors import DataError
from fgssl.store.manifest import Level, Manifest
from tests.data.made_up import LEVELS, dataset, in_child, sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pack(dataset(), tmp_path / "shards", shard_bytes=2000)
    return tmp_path / "shards"


def test_permutation_is_deterministic_and_follows_the_seed(tmp_path: Path) -> None:
    manifests = [pack(dataset(seed=seed), tmp_path / str(number)) for number, seed in enumerate((0, 0, 1))]
    orders = [list(ShardedSplit(tmp_path / str(number), "train").source_ids) for number in range(3)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert orders[0] != [sample(number).source_id for number in range(60)]
    assert manifests[0].version == manifests[1].version != manifests[2].version
    assert (tmp_path / "0/train-00000.h5").read_bytes() == (tmp_path / "1/train-00000.h5").read_bytes()


def test_manifest_counts_the_classes_and_names_the_attributes(folder: Path) -> None:
    manifest = Manifest.read(folder)
    assert len(manifest.splits["train"]) > 2  # several shards
    for split in ("train", "test"):
        labels = ShardedSplit(folder, split).labels
        assert manifest.class_counts[split] == tuple(
            tuple(np.bincount(labels[:, level], minlength=len(LEVELS[level].classes)).tolist()) for level in (0, 1)
        )
    assert manifest.class_counts["test"] == ((3, 4, 3), (7, 3))  # numbers 100 to 109
    assert manifest.attributes == ("light", "pose")


def test_classes_without_images_are_counted_as_none(tmp_path: Path) -> None:
    lone = dataclasses.replace(dataset(), splits={"train": [partial(sample, 1)]})
    assert pack(lone, tmp_path / "shards").class_counts == {"train": ((0, 1, 0), (1, 0))}


def test_attributes_are_the_same_in_all_shards_and_splits(tmp_path: Path) -> None:
    bare = dataclasses.replace(dataset(), splits={**dataset().splits, "test": [lambda: Sample(b"1", (0, 0), "1")]})
    with pytest.raises(ValueError, match="do not fit the dataset"):
        pack(bare, tmp_path / "shards")
    assert list(tmp_path.iterdir()) == [tmp_path / ".shards.packing"]


def test_version_covers_classes(tmp_path: Path) -> None:
    other = dataclasses.replace(dataset(), levels=(Level("species", ("a/x", "a/y", "b/z")), LEVELS[1]))
    assert pack(dataset(), tmp_path / "1").version != pack(other, tmp_path / "2").version


def test_empty_folder_is_taken_and_anything_else_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pack(dataset(), tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("empty", "full", "file"):
        with pytest.raises(DestinationExistsError, match=f"{name}: exists already and is never overwritten"):
            pack(dataset(), tmp_path / name)
    assert (tmp_path / "full" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_two_packers_of_one_folder_refuse_each_other(tmp_path: Path) -> None:
    destination = tmp_path / "shards"
    refused = []

    def meanwhile() -> Sample:
        with pytest.raises(
            PackingInProgressError, match=f"shards: process {os.getpid()} on .* is packing there"
        ) as error:
            pack(dataset(), destination)
        refused.append(error)
        return sample(0)

    pack(dataclasses.replace(dataset(), splits={"train": [meanwhile]}), destination)
    assert len(refused) == len(ShardedSplit(destination, "train")) == 1
    assert os.listdir(tmp_path) == ["shards"]


def test_destination_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    def meanwhile() -> Sample:
        (tmp_path / "shards").mkdir()
        (tmp_path / "shards" / "mine.txt").write_text("mine")
        return sample(0)

    with pytest.raises(DestinationExistsError):
        pack(dataclasses.replace(dataset(), splits={"train": [meanwhile]}), tmp_path / "shards")
    assert [file.name for file in tmp_path.rglob("*")] == ["shards", "mine.txt"]


def test_all_unreadable_images_are_listed_and_finished_shards_are_kept(tmp_path: Path) -> None:
    def unreadable(number: int) -> Sample:
        raise UnreadableImageError(f"bad-{number:02d}.jpg: truncated")

    bad = [partial(unreadable, number) for number in range(25)]
    broken = dataclasses.replace(dataset(), splits={**dataset().splits, "test": bad})
    remarks: list[str] = []
    with pytest.raises(DataError) as caught:
        pack(broken, tmp_path / "shards", remark=remarks.append)
    lines = str(caught.value).splitlines()
    assert lines[0] == "25 images that cannot be packed:"
    assert [line.strip() for line in lines[1:21]] == [f"bad-{number:02d}.jpg: truncated" for number in range(20)]
    assert lines[21].strip() == "... and 5 more"
    kept = tmp_path / ".shards.packing"
    (remark,) = remarks
    assert remark.startswith(f"{kept} keeps the finished shards: the same command goes on after them")
    assert list(tmp_path.iterdir()) == [kept]


def test_empty_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split val has no images"):
        pack(dataclasses.replace(dataset(), splits={**dataset().splits, "val": []}), tmp_path / "shards")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"labels": (3, 0)}, {"labels": (0,)}, {"image": b""}, {"attributes": {"light": 1.0}}]
)
def test_samples_that_do_not_fit_the_dataset(tmp_path: Path, wrong: dict[str, Any]) -> None:
    mixed: list[Callable[[], Sample]] = [partial(sample, 1), lambda: dataclasses.replace(sample(2), **wrong)]
    with pytest.raises(ValueError, match="do not fit the dataset"):
        pack(dataclasses.replace(dataset(), splits={"train": mixed}), tmp_path / "shards")


def test_no_write_permission() -> None:
    parent = Path(tempfile.mkdtemp())  # tmp_path lies in a folder that only its owner may enter
    parent.chmod(0o555)

    def try_to_pack() -> str:
        if os.geteuid() == 0:
            os.setuid(65534)
        pack(dataset(), parent / "shards")
        return "packed"

    try:
        message = in_child(try_to_pack)
        assert message.startswith(f"DataError: {parent}/shards: cannot be written (Permission denied); ")
        assert list(parent.iterdir()) == []
    finally:
        shutil.rmtree(parent)


def test_write_that_fails_half_way(tmp_path: Path) -> None:
    def try_to_pack() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        pack(dataset(count=600), tmp_path / "shards", shard_bytes=4000)
        return "packed"

    assert f"{tmp_path}/shards: cannot be written (File too large); free space" in in_child(try_to_pack)
    assert list(tmp_path.iterdir()) == []


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); free space"):
        pack(dataset(), tmp_path / "shards")
    assert list(tmp_path.iterdir()) == []
