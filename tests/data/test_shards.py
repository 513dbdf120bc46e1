"""Reading of packed datasets: rows, open files, and damaged folders."""

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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import Sample, SourceDataset
from fgssl.errors import DataError
from fgssl.store.manifest import Manifest, verify
from tests.data.made_up import LEVELS, dataset, in_child, sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pack(dataset(), tmp_path / "shards", shard_bytes=2000)
    return tmp_path / "shards"


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


def test_limit_of_open_files_is_raised_for_many_shards(tmp_path: Path) -> None:
    def read() -> str:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        split = ShardedSplit(tmp_path / "shards", "train")
        for row in range(100):
            split.read(row)
        assert split._open_file.cache_info().currsize == 100
        return str(resource.getrlimit(resource.RLIMIT_NOFILE) == (400, hard))

    pack(dataset(count=100), tmp_path / "shards", shard_bytes=1)
    assert in_child(read) == "True"


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
