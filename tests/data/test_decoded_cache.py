import fcntl
import io
import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgssl.data import decoded_cache, shards
from fgssl.data.decoded_cache import DecodedCache
from fgssl.data.packed_image import PILLOW_LIMIT
from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import Sample, SourceDataset
from fgssl.store import files

COUNT = 30


def sample(number: int) -> Sample:
    pixels = np.random.default_rng(number).integers(0, 256, (20 + number % 5, 30 - number % 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 1 + number % 8  # Orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    return Sample(buffer.getvalue(), (), f"{number}.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = {"train": [partial(sample, number) for number in range(COUNT)]}
    pack(SourceDataset("made-up", "test", {}, (), images), tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that takes the place of /dev/shm, with much space."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(decoded_cache, "_SHARED_MEMORY", tmp_path / "shm")
    files.warn_once.cache_clear()
    return tmp_path / "shm"


def assert_same_pixels(one: ShardedSplit, other: ShardedSplit) -> None:
    for row in range(COUNT):
        np.testing.assert_array_equal(one.pixels(row), other.pixels(row))
        assert one.pixels(row).dtype == other.pixels(row).dtype == np.uint8


def test_cached_pixels_are_decoded_ones_and_decoded_once(
    folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, cached, other = (ShardedSplit(folder, "train", cache) for cache in ("none", "memory", "memory"))
    assert_same_pixels(plain, cached)
    monkeypatch.setattr(shards, "decode", lambda encoded: pytest.fail("decoded again"))
    expected = [cached.pixels(row) for row in range(COUNT)]
    assert all(pixels.flags.c_contiguous and pixels.flags.writeable for pixels in expected)
    for row in range(COUNT):
        np.testing.assert_array_equal(other.pixels(row), expected[row])
    assert len(list(memory.iterdir())) == 1


def test_last_user_deletes_the_file(folder: Path, memory: Path) -> None:
    first = ShardedSplit(folder, "train", "memory")
    second = pickle.loads(pickle.dumps(first))
    del first
    assert len(list(memory.iterdir())) == 1
    second.pixels(0)
    del second
    assert list(memory.iterdir()) == []


def test_fork_leaves_the_file_to_its_parent(folder: Path, memory: Path) -> None:
    split = ShardedSplit(folder, "train", "memory")
    child = os.fork()
    if child == 0:
        del split
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(memory.iterdir())) == 1
    split.pixels(0)


FILL = """
import os, sys
from pathlib import Path
from fgssl.data import decoded_cache
from fgssl.data.shards import ShardedSplit
decoded_cache._SHARED_MEMORY = Path(sys.argv[2])
split = ShardedSplit(Path(sys.argv[1]), "train", "memory")
rows = list(range(len(split)))
for row in rows[:: int(sys.argv[3])]:
    split.pixels(row)
print("filled", flush=True)
sys.stdin.read()
"""


def other_process(folder: Path, memory: Path, direction: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FILL, str(folder), str(memory), str(direction)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_processes_share_what_they_decoded(
    folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = ShardedSplit(folder, "train")
    expected = [plain.pixels(row) for row in range(COUNT)]
    with other_process(folder, memory, 1) as upwards, other_process(folder, memory, -1) as downwards:
        assert said(upwards) == said(downwards) == "filled"
        cached = ShardedSplit(folder, "train", "memory")
        monkeypatch.setattr(shards, "decode", lambda encoded: pytest.fail("decoded again"))
        for row in range(COUNT):
            np.testing.assert_array_equal(cached.pixels(row), expected[row])
        del cached
        for process in (upwards, downwards):
            process.communicate()
    assert list(memory.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_file_of_a_killed_process_is_deleted_by_the_next(folder: Path, memory: Path) -> None:
    with other_process(folder, memory, 1) as killed:
        assert said(killed) == "filled"
        (left,) = memory.iterdir()
        killed.send_signal(signal.SIGKILL)
    assert left.stat().st_blocks > COUNT
    (memory / f"fgssl-{os.getuid()}-other-dataset").write_bytes(b"left")
    with (memory / f"fgssl-{os.getuid()}-in-use").open("w") as in_use:
        fcntl.flock(in_use, fcntl.LOCK_SH)
        split = ShardedSplit(folder, "train", "memory")
        assert sorted(memory.iterdir()) == sorted([left, Path(in_use.name)])
    assert left.stat().st_blocks == 0
    assert_same_pixels(ShardedSplit(folder, "train"), split)


def test_image_is_no_image_before_its_first_byte_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DecodedCache(tmp_path / "cache", 2)
    pixels = np.full((3, 4, 3), 7, dtype=np.uint8)
    with monkeypatch.context() as killed:
        killed.setattr(os, "pwrite", lambda *arguments: 0)
        cache.put(1, pixels)
    assert cache.get(0) is cache.get(1) is None
    cache.put(1, pixels)
    found = cache.get(1)
    assert found is not None
    np.testing.assert_array_equal(found, pixels)
    assert cache.used_bytes < 2**20


def test_too_little_memory_is_a_warning(
    folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = COUNT * (22 * 27 * 3 + 4096)
    monkeypatch.setattr(decoded_cache, "free_memory", lambda folder: needed)  # of which a quarter must stay free
    assert_same_pixels(ShardedSplit(folder, "train"), ShardedSplit(folder, "train", "memory"))
    assert "WARNING: data.cache: 30 decoded images need about 0.0 GiB more" in capsys.readouterr().err
    assert list(memory.iterdir()) == []
    monkeypatch.setattr(decoded_cache, "free_memory", lambda folder: 2 * needed)
    split = ShardedSplit(folder, "train", "memory")
    assert len(list(memory.iterdir())) == 1
    assert_same_pixels(ShardedSplit(folder, "train"), split)


def test_memory_that_fills_up_later_is_a_warning(
    folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, cached = ShardedSplit(folder, "train"), ShardedSplit(folder, "train", "memory")
    cached.pixels(0)

    def pwritev(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", pwritev)
    assert_same_pixels(plain, cached)
    warning = capsys.readouterr().err
    assert warning.count("WARNING: data.cache: ") == 1
    assert "No space left on device: all other images are decoded each time" in warning


def test_no_shared_memory_is_a_warning(
    folder: Path, tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoded_cache, "_SHARED_MEMORY", tmp_path / "missing")
    assert_same_pixels(ShardedSplit(folder, "train"), ShardedSplit(folder, "train", "memory"))
    assert "No such file or directory: images are decoded each time" in capsys.readouterr().err


def test_file_of_another_user_is_not_used(folder: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = DecodedCache(memory / "cache", 3)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="belongs to another user"):
        DecodedCache(first.path, 3)


def test_every_image_that_can_be_packed_has_space() -> None:
    assert 3 * PILLOW_LIMIT + decoded_cache._PIXELS_AT <= decoded_cache._STRIDE


def test_image_without_space_is_a_warning(
    memory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoded_cache, "_STRIDE", 1000)
    cache = DecodedCache(memory / "cache", 2)
    for _ in range(2):
        cache.put(0, np.zeros((20, 30, 3), dtype=np.uint8))
    assert cache.get(0) is None
    assert cache.get(1) is None
    assert capsys.readouterr().err == (
        "WARNING: data.cache: images as large as 30 x 20 px are decoded each time they are read\n"
    )
