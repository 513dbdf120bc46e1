import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fgssl.data import staging
from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import Sample, SourceDataset
from fgssl.data.staging import staged
from fgssl.errors import DataError
from fgssl.progress import Advance
from fgssl.settings.data import DataSettings
from fgssl.store import files
from fgssl.store.manifest import Manifest, verify


def sample(number: int) -> Sample:
    return Sample(np.random.default_rng(number).bytes(5000), (), f"{number}.png")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    files.warn_once.cache_clear()
    splits = {"train": [partial(sample, number) for number in range(6)], "test": [partial(sample, 7)]}
    pack(SourceDataset("made-up", "test", {}, (), splits, drawn=True), tmp_path / "shards", shard_bytes=1)
    return tmp_path / "shards"


class Counted:
    """Progress that counts the shards that are copied."""

    def __init__(self) -> None:
        self.copied = 0

    @contextmanager
    def __call__(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        def advance(units: int) -> None:
            self.copied += units

        yield advance


def in_children(*functions: Callable[[], object]) -> list[int]:
    """Run each function in a fork of this process, all at once, and return how the forks ended."""
    children = []
    for function in functions:
        child = os.fork()
        if child == 0:
            try:
                function()
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "lock"}


def test_copy_is_read_in_place_of_the_shards(shards: Path, tmp_path: Path) -> None:
    copy = staged(shards, str(tmp_path / "local" / "deep"))
    assert copy.parent == tmp_path / "local" / "deep"
    assert content(copy) == content(shards)
    assert verify(copy).version == Manifest.read(shards).version
    split, original = ShardedSplit(copy, "train"), ShardedSplit(shards, "train")
    shutil.rmtree(shards)
    assert [len(split.read(row)) for row in range(6)] == [5000] * 6
    assert split.version == original.version


def test_nothing_is_copied_without_the_setting(shards: Path) -> None:
    assert staged(shards, None) == shards


def test_complete_copy_is_used_again_and_other_versions_get_their_own(shards: Path, tmp_path: Path) -> None:
    first, second = Counted(), Counted()
    copy = staged(shards, str(tmp_path / "local"), first)
    assert staged(shards, str(tmp_path / "local"), second) == copy
    assert (first.copied, second.copied) == (7, 0)
    pack(SourceDataset("other", "test", {}, (), {"train": [partial(sample, 0)]}, drawn=True), tmp_path / "other")
    assert staged(tmp_path / "other", str(tmp_path / "local")) != copy


def test_file_of_another_size_is_copied_again(shards: Path, tmp_path: Path) -> None:
    copy, again = staged(shards, str(tmp_path)), Counted()
    os.truncate(copy / "train-00001.h5", 100)
    (copy / "manifest.json").write_text("{")
    assert staged(shards, str(tmp_path), again) == copy
    assert again.copied == 1
    assert content(copy) == content(shards)


@pytest.mark.parametrize("stage", ["$FGSSL_TEST_DISK/data", "${FGSSL_TEST_DISK}/data", "~/data"])
def test_variables_of_the_node_are_expanded(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setenv("FGSSL_TEST_DISK", str(tmp_path / "disk"))
    monkeypatch.setenv("HOME", str(tmp_path / "disk"))
    assert staged(shards, stage).parent == tmp_path / "disk" / "data"


@pytest.mark.parametrize("value", [None, ""])
def test_variable_that_is_not_set_is_a_warning(
    shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("FGSSL_TEST_DISK", raising=False)
    else:
        monkeypatch.setenv("FGSSL_TEST_DISK", value)
    assert staged(shards, "$FGSSL_TEST_DISK") == shards
    assert capsys.readouterr().err == (
        "WARNING: data.stage: $FGSSL_TEST_DISK: $FGSSL_TEST_DISK is not set on this machine: images are read from "
        f"{shards}\n"
    )


def test_stage_is_a_folder_of_the_node() -> None:
    with pytest.raises(ValueError, match="stage 'scratch': must be an absolute path of a node, or begin with a var"):
        DataSettings(stage="scratch")
    assert DataSettings(stage="$SLURM_TMPDIR").stage == "$SLURM_TMPDIR"


def test_two_processes_copy_once(shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def copy_and_count(name: str) -> None:
        counted = Counted()
        staged(shards, str(tmp_path / "local"), counted)
        (tmp_path / name).write_text(str(counted.copied))

    def slowly() -> None:
        chunks = staging._chunks

        def slow(source: Path) -> Iterator[bytes]:
            while not (tmp_path / "second-begins").exists():
                pass
            time.sleep(0.1)
            yield from chunks(source)

        staging._chunks = slow
        copy_and_count("first")

    def second() -> None:
        while not list(tmp_path.glob("local/*/*.partial")):
            pass
        (tmp_path / "second-begins").touch()
        copy_and_count("second")

    assert in_children(slowly, second) == [0, 0]
    assert [(tmp_path / name).read_text() for name in ("first", "second")] == ["7", "0"]
    assert capfd.readouterr().err.count("waiting for another process, which copies the shards there") == 1


def test_copy_of_a_killed_process_is_completed(shards: Path, tmp_path: Path) -> None:
    def killed_in_the_third_shard() -> None:
        opened = 0

        def chunks(source: Path) -> Iterator[bytes]:
            nonlocal opened
            opened += 1
            yield source.read_bytes()[:3000]
            if opened == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield source.read_bytes()[3000:]

        staging._chunks = chunks
        staged(shards, str(tmp_path / "local"))

    assert in_children(killed_in_the_third_shard) == [signal.SIGKILL]
    (copy,) = (tmp_path / "local").iterdir()
    assert len(list(copy.glob("*.h5"))) == 2
    assert len(list(copy.glob("*.partial"))) == 1
    assert not (copy / "manifest.json").exists()
    counted = Counted()
    assert staged(shards, str(tmp_path / "local"), counted) == copy
    assert counted.copied == 5
    assert content(copy) == content(shards)


def test_flipped_byte_is_found_while_copying(shards: Path, tmp_path: Path) -> None:
    path = shards / "train-00002.h5"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"shards/train-00002\.h5: SHA-256 is .*: the shard is damaged; copy it again"):
        staged(shards, str(tmp_path / "local"))
    (copy,) = (tmp_path / "local").iterdir()
    assert not list(copy.glob("train-00002*"))
    assert not (copy / "manifest.json").exists()


def test_missing_shard(shards: Path, tmp_path: Path) -> None:
    (shards / "test-00000.h5").unlink()
    with pytest.raises(DataError, match=r"shards/test-00000\.h5: cannot be read \(No such file .*: the folder is inc"):
        staged(shards, str(tmp_path / "local"))


def test_too_little_space_is_a_warning(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = sum(file.stat().st_size for file in shards.glob("*.h5"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed - 1))
    counted = Counted()
    assert staged(shards, str(tmp_path / "local"), counted) == shards
    assert counted.copied == 0
    assert " GB are needed, but " in capsys.readouterr().err
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed))
    assert staged(shards, str(tmp_path / "local"), counted) != shards
    assert counted.copied == 7


def test_folder_that_cannot_be_written_is_a_warning(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert staged(shards, str(tmp_path / "file")) == shards
    assert "cannot be written (Not a directory): images are read from" in capsys.readouterr().err


def test_write_that_fails_half_way_is_a_warning(
    shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    size = (shards / "train-00000.h5").stat().st_size

    def with_small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
        assert staged(shards, str(tmp_path / "local")) == shards

    assert in_children(with_small_files) == [0]
    assert "cannot be written (File too large): images are read from" in capfd.readouterr().err
    (copy,) = (tmp_path / "local").iterdir()
    assert [file.name for file in copy.iterdir()] == ["lock"]
