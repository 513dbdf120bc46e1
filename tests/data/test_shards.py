import dataclasses
import errno
import fcntl
import hashlib
import itertools
import json
import os
import pickle
import resource
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fgssl.data.packing import DestinationExistsError, PackingInProgressError, pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import Sample, SourceDataset, UnreadableImageError
from fgssl.errors import DataError
from fgssl.store.manifest import Level, Manifest, verify

LEVELS = (Level("species", ("a/x", "a/y", "b/x")), Level("genus", ("a", "b")))


def sample(number: int) -> Sample:
    content = hashlib.sha256(str(number).encode()).digest() * (1 + number % 7)
    return Sample(
        image=content,
        labels=(number % 3, number % 3 // 2),
        source_id=f"größe/{number}.png",
        group=f"track{number // 4}" if number < 20 else "",
        attributes={"light": number / 8, "pose": -float(number)},
    )


def dataset(count: int = 60, seed: int = 0) -> SourceDataset:
    return SourceDataset(
        name="made-up",
        source="test",
        arguments={"seed": seed},
        levels=LEVELS,
        splits={
            "train": [partial(sample, number) for number in range(count)],
            "test": [partial(sample, number) for number in range(100, 110)],
        },
        seed=seed,
        drawn=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pack(dataset(), tmp_path / "shards", shard_bytes=2000)
    return tmp_path / "shards"


def in_child(function: Callable[[], str]) -> str:
    """Return the result of `function`, or the message of its exception, from a fork of this process."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the very case under test
        child = os.fork()
    if child == 0:
        try:
            text = function()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(send, text.encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as file:
        text = file.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return text


def digest(split: ShardedSplit) -> str:
    return hashlib.sha256(b"".join(split.read(row) for row in range(len(split)))).hexdigest()


# ------------------------------------------------------------------------------------------- reading


def test_rows_hold_what_the_source_gave(folder: Path) -> None:
    split = ShardedSplit(folder, "train")
    assert len(split) == 60
    assert split.manifest.dataset == "made-up"
    assert split.levels == list(LEVELS)
    assert len(split.manifest.splits["train"]) > 2  # several shards
    by_source_id = {sample(number).source_id: sample(number) for number in range(60)}
    assert set(split.source_ids) == set(by_source_id)
    for row, source_id in enumerate(split.source_ids):
        expected = by_source_id[source_id]
        assert split.read(row) == expected.image
        assert tuple(split.labels[row]) == expected.labels
        assert {name: values[row] for name, values in split.attributes.items()} == expected.attributes


def test_read_equals_h5py(folder: Path) -> None:
    split = ShardedSplit(folder, "train")
    expected = []
    for path in sorted(folder.glob("train-*.h5")):
        with h5py.File(path) as file:
            assert file["images"].chunks is None
            offsets = file["offsets"][:]
            expected += [file["images"][a:b].tobytes() for a, b in itertools.pairwise(offsets)]
    assert [split.read(row) for row in range(len(split))] == expected


def test_groups_are_shared_by_a_track_and_by_no_one_else(folder: Path) -> None:
    split = ShardedSplit(folder, "train")
    number = np.array([int(Path(source_id).stem) for source_id in split.source_ids])
    for row in range(len(split)):
        same = set(number[split.groups == split.groups[row]])
        track = number[row] // 4 * 4
        assert same == (set(range(track, track + 4)) if number[row] < 20 else {number[row]})
    assert not set(split.groups) & set(ShardedSplit(folder, "test").groups)


def test_unlabeled_images(tmp_path: Path) -> None:
    samples = [lambda: Sample(b"1", (), "1"), lambda: Sample(b"2", (), "2")]
    bare = SourceDataset("bare", "test", {}, (), {"train": samples}, drawn=True)
    pack(bare, tmp_path / "shards")
    split = ShardedSplit(tmp_path / "shards", "train")
    assert split.labels.shape == (2, 0)
    assert split.levels == []
    assert split.attributes == {}
    assert (split.manifest.class_counts, split.manifest.attributes) == ({"train": ()}, ())


def test_survives_a_fork(folder: Path) -> None:
    split = ShardedSplit(folder, "train")
    expected = digest(split)
    assert in_child(lambda: digest(split)) == expected
    assert digest(split) == expected  # the child closed its descriptors, not ours


def test_many_threads_read_at_once(folder: Path) -> None:
    split = ShardedSplit(folder, "train")
    expected = [split.read(row) for row in range(len(split))]
    faults: list[int] = []

    def read_all(seed: int) -> None:
        for row in np.random.default_rng(seed).integers(0, len(split), 2000).tolist():
            if split.read(row) != expected[row]:
                faults.append(row)

    threads = [threading.Thread(target=read_all, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_pickled_split_opens_its_own_files(folder: Path) -> None:
    split = ShardedSplit(folder, "train")
    copy = pickle.loads(pickle.dumps(split))
    expected = digest(split)
    del split
    assert digest(copy) == expected


def test_descriptors_are_closed_with_the_split(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    split = ShardedSplit(folder, "train")
    assert len(os.listdir("/proc/self/fd")) == before
    digest(split)
    assert len(os.listdir("/proc/self/fd")) == before + len(split.manifest.splits["train"])
    del split
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_thousand_shards_under_a_limit_of_64_files(tmp_path: Path) -> None:
    def read_by_threads() -> str:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        splits = [ShardedSplit(tmp_path / "shards", split) for split in ("train", "test")]
        with ThreadPoolExecutor(8) as pool:
            for split in splits:
                rows = np.random.default_rng(0).integers(0, len(split), 3000).tolist()
                numbers = [int(Path(name).stem) for name in split.source_ids]
                for row, image in zip(rows, pool.map(split.read, rows), strict=True):
                    assert image == sample(numbers[row]).image, row
        return f"{len(splits[0].manifest.splits['train'])} shards, {len(os.listdir('/proc/self/fd'))} files"

    pack(dataset(count=1000), tmp_path / "shards", shard_bytes=1)
    shards, files = in_child(read_by_threads).replace(",", "").split()[::2]
    assert int(shards) == 1000
    assert int(files) < 48


def test_no_file_can_be_opened(folder: Path) -> None:
    split = ShardedSplit(folder, "train")

    def read() -> str:
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, lowest_free))
        return str(len(split.read(0)))

    assert "cannot be read (Too many open files): raise the limit of open files" in in_child(read)


def test_an_image_is_one_read_of_an_open_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = ShardedSplit(folder, "train")
    calls = {"open": 0, "pread": 0}
    real = {name: getattr(os, name) for name in calls}

    def counted(name: str, *arguments: Any) -> Any:
        calls[name] += 1
        return real[name](*arguments)

    for name in calls:
        monkeypatch.setattr(os, name, partial(counted, name))
    for row in [*range(60), *range(60)]:
        split.read(row)
    assert calls == {"open": len(split.manifest.splits["train"]), "pread": 120}


def test_names_are_read_where_they_are_used(folder: Path) -> None:
    names = ShardedSplit(folder, "train").source_ids
    assert len(names) == 60
    assert [names[row] for row in range(60)] == list(names)
    assert names[10:14] == list(names)[10:14]
    with pytest.raises(IndexError, match="row 60 of 60"):
        names[60]


@pytest.mark.parametrize("row", [-1, 60])
def test_row_out_of_range(folder: Path, row: int) -> None:
    with pytest.raises(IndexError, match=f"row {row} of 60"):
        ShardedSplit(folder, "train").read(row)


# ------------------------------------------------------------------------------------- damaged folders


def test_truncated_shard(folder: Path) -> None:
    path = folder / "train-00001.h5"
    size = path.stat().st_size
    os.truncate(path, size - 7)
    with pytest.raises(
        DataError, match=rf"train-00001\.h5: shard has {size - 7} bytes, but {size} in the manifest: it was cut short"
    ):
        ShardedSplit(folder, "train")
    assert len(ShardedSplit(folder, "test")) == 10


def test_truncated_after_opening(folder: Path) -> None:
    split = ShardedSplit(folder, "train")
    os.truncate(folder / "train-00000.h5", 0)
    with pytest.raises(DataError, match=r"train-00000\.h5: row 0 has 0 of \d+ bytes"):
        split.read(0)


def test_missing_shard(folder: Path) -> None:
    (folder / "train-00002.h5").unlink()
    with pytest.raises(DataError, match=r"train-00002\.h5: cannot be read \(No such file .*: the folder is incom"):
        ShardedSplit(folder, "train")


def test_no_permission() -> None:
    parent = Path(tempfile.mkdtemp())  # tmp_path lies in a folder that only its owner may enter
    parent.chmod(0o755)

    def open_split() -> str:
        if os.geteuid() == 0:
            os.setuid(65534)
        return str(len(ShardedSplit(parent / "shards", "train")))

    try:
        pack(dataset(), parent / "shards")
        assert in_child(open_split) == "60"
        for file in ("train-00000.h5", "manifest.json"):
            (parent / "shards" / file).chmod(0)
            message = in_child(open_split)
            assert message.startswith(f"DataError: {parent}/shards/{file}: cannot be read (Permission denied): ask the")
    finally:
        shutil.rmtree(parent)


def test_lock_of_another_process_is_no_hindrance(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
    with (folder / "train-00000.h5").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert len(ShardedSplit(folder, "train")) == 60


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ESTALE, "replaced or deleted on its server"), (errno.EIO, "check the file system")],
)
def test_file_server_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    split = ShardedSplit(folder, "train")

    def pread(*arguments: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(DataError, match=rf"train-00000\.h5: cannot be read \({os.strerror(number)}\): .*{advice}"):
        split.read(0)


def test_other_format_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    with pytest.raises(DataError, match=r"manifest\.json: format is 1, but this version of fgssl reads \d: pack the"):
        ShardedSplit(folder, "train")


def test_damaged_header(folder: Path) -> None:
    with (folder / "train-00000.h5").open("r+b") as file:
        file.write(b"\0" * 64)
    with pytest.raises(DataError, match=r"train-00000\.h5: shard is damaged"):
        ShardedSplit(folder, "train")


def test_shards_of_another_packing(folder: Path) -> None:
    first, second = folder / "train-00000.h5", folder / "train-00001.h5"
    manifest = json.loads((folder / "manifest.json").read_text())
    sizes = {shard["file"]: shard["bytes"] for shard in manifest["splits"]["train"]["shards"]}
    content = second.read_bytes()[: sizes[first.name]].ljust(sizes[first.name], b"\0")
    first.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00000\.h5: shard is damaged"):
        ShardedSplit(folder, "train")


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no packed dataset \(manifest\.json is missing\): pack it with `fgssl pack`"):
        ShardedSplit(tmp_path, "train")


def test_unknown_split(folder: Path) -> None:
    with pytest.raises(DataError, match="has no split 'val'; it has train, test"):
        ShardedSplit(folder, "val")


def test_flipped_byte_of_an_image_is_found_by_verify_only(folder: Path) -> None:
    split = ShardedSplit(folder, "train")
    before = split.read(5)
    path = folder / "train-00000.h5"
    content = bytearray(path.read_bytes())
    content[content.index(before)] ^= 1
    path.write_bytes(content)
    assert ShardedSplit(folder, "train").read(5) == bytes([before[0] ^ 1]) + before[1:]
    with pytest.raises(DataError, match=r"train-00000\.h5: SHA-256 is"):
        verify(folder)


def test_verify_finds_every_changed_byte(folder: Path) -> None:
    assert verify(folder).version == Manifest.read(folder).version
    for name in ("train-00001.h5", "test-00000.h5"):
        with (folder / name).open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
    with pytest.raises(DataError) as caught:
        verify(folder)
    assert str(caught.value).startswith("2 damaged shards:")
    assert "train-00001.h5: SHA-256 is" in str(caught.value)
    assert "test-00000.h5: SHA-256 is" in str(caught.value)


# ------------------------------------------------------------------------------------------- packing


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
    assert list(tmp_path.iterdir()) == []


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
    assert remarks == [f"{kept} keeps the shards finished before: the same command goes on after them"]
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
