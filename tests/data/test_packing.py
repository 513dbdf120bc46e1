"""Packing of image files: the same shards for any number of threads, and after any interruption."""

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import pytest
from PIL import Image

from fgssl.commands.pack import _leaving_on_term
from fgssl.data import packing
from fgssl.data.packing import IMAGES_PER_TASK, TASKS_AHEAD, in_order, pack
from fgssl.data.packing_folder import PackingFolder
from fgssl.data.shard_content import shard_content
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import SourceDataset
from fgssl.errors import DataError
from fgssl.settings.packing import PackingSettings
from fgssl.store import provenance
from fgssl.store.manifest import verify
from tests.data import photos
from tests.data.photos import SHARD_BYTES, dataset, jpeg, packed


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def ended(function: Callable[[], object]) -> int:
    """Call `function` in a fork of this process and return the wait status of the fork."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except SystemExit as exit:
            os._exit(int(exit.code or 0))
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def at_image(count: int, act: Callable[[], None]) -> Callable[[str], None]:
    """Return a function for `photos.on_reading` that acts when so many images have been read."""
    seen: list[str] = []

    def reading(name: str) -> None:
        seen.append(name)
        if len(seen) == count:
            act()

    return reading


@pytest.fixture
def set_reading() -> Iterator[Callable[[Callable[[str], None] | None], None]]:
    def put(function: Callable[[str], None] | None) -> None:
        photos.on_reading = function

    yield put
    put(None)


# ------------------------------------------------------------------------------------------- threads


def test_any_number_of_threads_writes_the_same_bytes(images: Path, tmp_path: Path) -> None:
    for workers in (1, 2, 5):
        packed(images, tmp_path / str(workers), workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "2") == content(tmp_path / "5")
    assert len(content(tmp_path / "1")) > 4  # several shards


def test_a_bounded_number_of_images_is_under_way() -> None:
    started: list[int] = []
    most = 0
    for done, _ in enumerate(in_order(started.append, range(2000), 3)):
        most = max(most, len(started) - done)
    assert len(started) == 2000
    assert 0 < most <= (3 * TASKS_AHEAD + 1) * IMAGES_PER_TASK


def test_an_error_ends_all_threads(images: Path, tmp_path: Path, set_reading: Any) -> None:
    def fail() -> None:
        patience = time.monotonic() + 10  # only a packing with a finished shard is kept
        while not (tmp_path / ".shards.packing/records/00000").exists() and time.monotonic() < patience:
            time.sleep(0.001)
        raise ZeroDivisionError

    set_reading(at_image(40, fail))
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        packed(images, tmp_path / "shards", workers=3)
    assert threading.active_count() == before
    assert sorted(os.listdir(tmp_path)) == [".shards.packing", "images"]


def test_libraries_are_left_as_they_were(images: Path, tmp_path: Path, set_reading: Any) -> None:
    before, limit, during = cv2.getNumThreads(), Image.MAX_IMAGE_PIXELS, set[int]()
    try:
        cv2.setNumThreads(3)
        set_reading(lambda name: during.add(cv2.getNumThreads()))
        packed(images, tmp_path / "shards")
        assert (during, cv2.getNumThreads(), Image.MAX_IMAGE_PIXELS) == ({1}, 3, limit)
    finally:
        cv2.setNumThreads(before)


# ------------------------------------------------------------------------------------- interruptions


def killed(images: Path, destination: Path, set_reading: Any, after: int = 45, **settings: Any) -> None:
    """Pack until so many images are read; then the process is killed without a chance to clean up."""
    set_reading(at_image(after, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert ended(lambda: packed(images, destination, **settings)) == signal.SIGKILL
    set_reading(None)


def names_read(images: Path, destination: Path, set_reading: Any) -> tuple[list[str], list[str]]:
    """Pack; return the names of the images that were read, and the remarks."""
    names: list[str] = []
    set_reading(names.append)
    remarks = packed(images, destination)
    set_reading(None)
    return names, remarks


def test_after_a_kill_packing_goes_on_and_writes_the_same_bytes(images: Path, tmp_path: Path, set_reading: Any) -> None:
    packed(images, tmp_path / "whole")
    killed(images, tmp_path / "shards", set_reading)
    assert not (tmp_path / "shards").exists()
    finished = {file.name: file.stat().st_ino for file in (tmp_path / ".shards.packing" / "shards").iterdir()}
    names, remarks = names_read(images, tmp_path / "shards", set_reading)
    assert content(tmp_path / "shards") == content(tmp_path / "whole")
    assert remarks == [f"goes on after {len(finished)} shards of an interrupted packing"]
    assert 15 <= len(names) < 45
    assert all((tmp_path / "shards" / name).stat().st_ino == inode for name, inode in finished.items())
    assert sorted(os.listdir(tmp_path)) == ["images", "shards", "whole"]
    verify(tmp_path / "shards", workers=2)


def test_finished_shards_of_changed_images_are_packed_again(images: Path, tmp_path: Path, set_reading: Any) -> None:
    killed(images, tmp_path / "shards", set_reading)
    first = ShardNames(tmp_path / ".shards.packing").first_image
    (images / first).write_bytes(jpeg(999))
    names, remarks = names_read(images, tmp_path / "shards", set_reading)
    again = "packs 7 shards of an interrupted packing again, since the files of their images have changed"
    assert (len(names), remarks) == (60, [again])
    packed(images, tmp_path / "fresh")
    assert content(tmp_path / "shards") == content(tmp_path / "fresh")


class ShardNames:
    """Names of the images in the first finished shard of a folder in which packing was interrupted."""

    def __init__(self, folder: Path) -> None:
        import h5py

        with h5py.File(folder / "shards" / "train-00000.h5") as file:
            self.first_image = os.fsdecode(file["source_ids"][0])


@pytest.mark.parametrize("damage", ["shard", "record", "lost shard"])
def test_damaged_remains_are_packed_again(images: Path, tmp_path: Path, set_reading: Any, damage: str) -> None:
    packed(images, tmp_path / "whole")
    killed(images, tmp_path / "shards", set_reading)
    remains = tmp_path / ".shards.packing"
    file = remains / "records" / "00001" if damage == "record" else remains / "shards" / "train-00001.h5"
    if damage == "lost shard":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-9])
    names, remarks = names_read(images, tmp_path / "shards", set_reading)
    assert remarks == [
        "goes on after 1 shard of an interrupted packing",
        "packs 6 shards of an interrupted packing again, since they are damaged",
    ]
    assert len(names) < 60
    assert content(tmp_path / "shards") == content(tmp_path / "whole")


def test_other_settings_start_anew(images: Path, tmp_path: Path, set_reading: Any) -> None:
    killed(images, tmp_path / "shards", set_reading)
    assert packed(images, tmp_path / "shards", shorter_side="original") == [
        'discards 7 shards of an interrupted packing, since shorter_side was 256 and is "original"'
    ]
    packed(images, tmp_path / "fresh", shorter_side="original")
    assert content(tmp_path / "shards") == content(tmp_path / "fresh")


def test_another_torch_or_processor_is_no_reason_to_start_anew(
    images: Path, tmp_path: Path, set_reading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(images, tmp_path / "shards", set_reading)
    other = {**provenance.versions(), "torch": "0", "processor": "another"}
    monkeypatch.setattr(packing, "versions", lambda: other)
    assert packed(images, tmp_path / "shards")[0].startswith("goes on after ")


def test_functions_that_cannot_be_compared_start_anew(images: Path, tmp_path: Path, set_reading: Any) -> None:
    def opaque() -> SourceDataset:
        given = dataset(images)
        splits: Mapping[str, Any] = {
            split: [lambda recipe=recipe: recipe() for recipe in recipes] for split, recipes in given.splits.items()
        }
        return SourceDataset("made-up", "test", {}, given.levels, splits)

    set_reading(at_image(45, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert ended(lambda: pack(opaque(), tmp_path / "shards", shard_bytes=SHARD_BYTES)) == signal.SIGKILL
    names: list[str] = []
    set_reading(names.append)
    pack(opaque(), tmp_path / "shards", shard_bytes=SHARD_BYTES)
    assert len(names) == 60


def interrupted(images: Path, folder: Path) -> tuple[int, str]:
    """Pack in a fork as the command does; return its exit code and the remarks."""
    receive, send = os.pipe()

    def run() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
        with _leaving_on_term():
            remark: Callable[[str], object] = lambda text: os.write(send, text.encode())  # noqa: E731
            pack(dataset(images), folder / "shards", shard_bytes=SHARD_BYTES, remark=remark)

    status = ended(run)
    os.close(send)
    with open(receive) as pipe:
        return os.waitstatus_to_exitcode(status), pipe.read()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_term_and_interrupt_leave_finished_shards_and_say_so(
    images: Path, tmp_path: Path, set_reading: Any, number: int, status: int
) -> None:
    set_reading(at_image(45, lambda: os.kill(os.getpid(), number)))
    exit_code, remark = interrupted(images, tmp_path)
    assert exit_code == status
    assert f"{tmp_path}/.shards.packing keeps the finished shards" in remark
    names, _ = names_read(images, tmp_path / "shards", set_reading)
    assert len(names) < 60


def test_term_before_the_first_shard_leaves_nothing(images: Path, tmp_path: Path, set_reading: Any) -> None:
    set_reading(at_image(5, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    exit_code, remark = interrupted(images, tmp_path)
    assert exit_code == 143
    assert remark.startswith("nothing is kept, since no shard was finished")
    assert os.listdir(tmp_path) == ["images"]


def test_h5py_is_not_used_in_the_thread_that_interruptions_reach(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set[threading.Thread]()

    def recorded(*arguments: Any) -> bytes:
        threads.add(threading.current_thread())
        return shard_content(*arguments)

    monkeypatch.setattr(packing, "shard_content", recorded)
    packed(images, tmp_path / "shards")
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("moment", ["_remarks", "permutation", "resume", "published"])
def test_an_interruption_outside_of_the_packing_of_images_keeps_the_shards(
    images: Path, tmp_path: Path, set_reading: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    set_reading(at_image(45, lambda: os.kill(os.getpid(), signal.SIGINT)))
    interrupted(images, tmp_path)
    set_reading(None)
    publish = PackingFolder.publish

    def interrupt(*arguments: Any, **named: object) -> Any:
        if moment == "published":
            publish(*arguments)
        raise KeyboardInterrupt

    place: Any = {"permutation": packing, "published": PackingFolder}.get(moment, packing._Packing)
    monkeypatch.setattr(place, "publish" if moment == "published" else moment, interrupt)
    exit_code, remark = interrupted(images, tmp_path)
    monkeypatch.undo()
    assert exit_code == 1
    if moment == "published":
        assert "keeps" not in remark
        assert sorted(os.listdir(tmp_path)) == ["images", "shards"]
    else:
        assert f"{tmp_path}/.shards.packing keeps the finished shards" in remark
        assert len(names_read(images, tmp_path / "shards", set_reading)[0]) < 60


def test_a_remark_that_cannot_be_printed_removes_no_shard(images: Path, tmp_path: Path, set_reading: Any) -> None:
    def remark(text: str) -> None:
        raise BrokenPipeError

    killed(images, tmp_path / "shards", set_reading)
    for settings in (PackingSettings(), PackingSettings(ground="black")):  # goes on, and discards
        with pytest.raises(BrokenPipeError):
            pack(dataset(images), tmp_path / "shards", settings, shard_bytes=SHARD_BYTES, remark=remark)
        kept = {"images", ".shards.packing"} if settings == PackingSettings() else {"images"}
        assert set(os.listdir(tmp_path)) == kept
    (images / "2.jpg").write_bytes(jpeg(3))  # an equal image with another label, a remark on the whole
    with pytest.raises(BrokenPipeError):
        pack(dataset(images), tmp_path / "shards", shard_bytes=SHARD_BYTES, remark=remark)
    assert sorted(os.listdir(tmp_path)) == ["images", "shards"]


def test_lock_of_a_killed_process_is_free(images: Path, tmp_path: Path, set_reading: Any) -> None:
    killed(images, tmp_path / "shards", set_reading, after=1)
    assert (tmp_path / ".shards.packing" / "lock").exists()
    packed(images, tmp_path / "shards")
    assert sorted(os.listdir(tmp_path)) == ["images", "shards"]


# ------------------------------------------------------------------------------------------ full disk


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mounted-{len(places)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True)
        if done.returncode:
            pytest.skip("only root may mount a file system")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


def test_disk_that_is_full_half_way_keeps_finished_shards(images: Path, mounted: Callable[[str], Path]) -> None:
    disk = mounted("size=64k")
    with pytest.raises(DataError, match=r"shards: cannot be written \(No space left on device\); free space"):
        packed(images, disk / "shards", shorter_side="original")
    assert os.listdir(disk) == [".shards.packing"]
    subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
    assert packed(images, disk / "shards", shorter_side="original")[0].startswith("goes on after ")
    assert os.listdir(disk) == ["shards"]


def test_read_only_disk(images: Path, mounted: Callable[[str], Path]) -> None:
    disk = mounted("size=64k,ro")
    with pytest.raises(DataError, match=r"shards: cannot be written \(Read-only file system\)"):
        packed(images, disk / "shards")


def test_few_open_files_are_enough(images: Path, tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        packed(images, tmp_path / "shards", workers=4)
        os._exit(0)

    assert ended(limited) == 0
    assert len(ShardedSplit(tmp_path / "shards", "train")) == 40
