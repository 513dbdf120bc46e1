"""Images that cannot be packed, and are left out."""

import dataclasses
import errno
from pathlib import Path

import pytest

from fgssl.data.inspection import overview
from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.errors import DataError
from fgssl.randomness import permutation
from fgssl.settings.packing import PackingSettings
from fgssl.store.manifest import Manifest
from tests.data.photos import SHARD_BYTES, dataset, jpeg, packed
from tests.data.test_packing import content, killed, set_reading

__all__ = ["set_reading"]


def spoil(images: Path, *numbers: int) -> None:
    for number in numbers:
        (images / f"{number}.jpg").write_bytes(jpeg(number)[:-60])


def names(folder: Path, split: str) -> set[int]:
    return {int(name.split(".")[0]) for name in ShardedSplit(folder, split).source_ids}


def test_they_are_refused_with_advice_or_left_out_and_named(images: Path, tmp_path: Path) -> None:
    spoil(images, 3, 45)
    (images / "4.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^3 images that cannot be packed:(.*\n)*.*give unreadable=drop to pack all"):
        packed(images, tmp_path / "refused")
    for workers in (1, 3):
        *_, remark = packed(images, tmp_path / str(workers), unreadable="drop", workers=workers)
        lines = remark.splitlines()
        assert lines[0] == "3 unreadable images left out:"
        assert [line.split(":")[0].strip() for line in lines[1:]] == ["3.jpg", "4.jpg", "45.jpg"]
        assert "Premature end" in lines[1]
    assert content(tmp_path / "1") == content(tmp_path / "3")
    assert names(tmp_path / "1", "train") == set(range(40)) - {3, 4}
    assert names(tmp_path / "1", "test") == set(range(40, 60)) - {45}
    assert Manifest.read(tmp_path / "1").remarks == (remark,)


def test_the_version_is_the_same_if_all_are_readable(images: Path, tmp_path: Path) -> None:
    packed(images, tmp_path / "refuse")
    assert packed(images, tmp_path / "drop", unreadable="drop") == []
    assert content(tmp_path / "drop") == content(tmp_path / "refuse")


@pytest.mark.parametrize("first", [3, 59])
def test_packing_that_was_refused_goes_on(images: Path, tmp_path: Path, first: int) -> None:
    spoil(images, first)
    with pytest.raises(DataError):
        packed(images, tmp_path / "shards")
    goes_on, _ = packed(images, tmp_path / "shards", unreadable="drop")
    assert goes_on.startswith("goes on after ")
    packed(images, tmp_path / "fresh", unreadable="drop")
    assert content(tmp_path / "shards") == content(tmp_path / "fresh")


def test_replaced_images_are_packed_as_if_they_had_been_readable_before(images: Path, tmp_path: Path) -> None:
    spoil(images, 3, 59)
    with pytest.raises(DataError):
        packed(images, tmp_path / "shards")
    for number in (3, 59):
        (images / f"{number}.jpg").write_bytes(jpeg(number))
    assert packed(images, tmp_path / "shards")[0].startswith("goes on after ")
    packed(images, tmp_path / "fresh")
    assert content(tmp_path / "shards") == content(tmp_path / "fresh")


def test_finished_shards_know_what_was_left_out_of_them(images: Path, tmp_path: Path, set_reading) -> None:
    spoil(images, *range(0, 60, 4))
    killed(images, tmp_path / "shards", set_reading, unreadable="drop")
    goes_on, left_out = packed(images, tmp_path / "shards", unreadable="drop")
    assert goes_on.startswith("goes on after ")
    assert left_out.startswith("15 unreadable images left out")
    packed(images, tmp_path / "fresh", unreadable="drop")
    assert content(tmp_path / "shards") == content(tmp_path / "fresh")
    killed(images, tmp_path / "refused", set_reading, unreadable="drop")
    remarks: list[str] = []
    with pytest.raises(DataError, match="15 images that cannot be packed"):
        pack(dataset(images), tmp_path / "refused", shard_bytes=SHARD_BYTES, remark=remarks.append)
    assert remarks[0].endswith("of an interrupted packing again, since unreadable images were left out of them")


def test_manifest_names_all_images_that_were_left_out(images: Path, tmp_path: Path) -> None:
    spoil(images, *range(25))
    (remark,) = packed(images, tmp_path / "shards", unreadable="drop")
    (kept,) = Manifest.read(tmp_path / "shards").remarks
    assert remark.splitlines()[-1] == "  ... and 5 more, which manifest.json names"
    assert len(remark.splitlines()) == 22
    assert len(kept.splitlines()) == 26
    assert remark.splitlines()[-1] in overview(tmp_path / "shards")


def test_nothing_left_of_a_class_or_of_a_split(images: Path, tmp_path: Path) -> None:
    spoil(images, *range(41, 60, 2))  # class b of test
    *_, remark = packed(images, tmp_path / "shards", unreadable="drop")
    assert remark == "1 class without images in test:\n  b"
    spoil(images, *range(40, 60))
    with pytest.raises(DataError, match="split test: no image is left: 20 images that cannot be packed:"):
        packed(images, tmp_path / "empty", unreadable="drop")
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("unreadable", ["refuse", "drop"])
@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE, errno.EIO, errno.EACCES, errno.EMFILE])
def test_files_that_the_system_does_not_give_are_never_left_out(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, unreadable: str
) -> None:
    spoil(images, 7)
    read = Path.read_bytes

    def hiccup(path: Path) -> bytes:
        if path == images / "5.jpg":
            raise OSError(number, "hiccup")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", hiccup)
    with pytest.raises(DataError, match=r"(?s)5\.jpg: hiccup.*unreadable=drop never leaves out files that are missing"):
        packed(images, tmp_path / "shards", unreadable=unreadable)
    monkeypatch.undo()
    packed(images, tmp_path / "shards", unreadable="drop")
    assert names(tmp_path / "shards", "train") == set(range(40)) - {7}


@pytest.mark.parametrize(("before", "after"), [(0.01, 178), (178, 0.01)])
def test_another_size_limit_decides_about_all_images(
    images: Path, tmp_path: Path, set_reading, before: float, after: float
) -> None:
    for number in range(0, 60, 5):
        (images / f"{number}.jpg").write_bytes(jpeg(number, 120, 100))
    killed(images, tmp_path / "shards", set_reading, unreadable="drop", max_megapixels=before)
    remarks = packed(images, tmp_path / "shards", unreadable="drop", max_megapixels=after)
    assert f"since max_megapixels was {before:g} and is {after:g}" in "".join(remarks)
    packed(images, tmp_path / "fresh", unreadable="drop", max_megapixels=after)
    assert content(tmp_path / "shards") == content(tmp_path / "fresh")


def test_shards_without_unreadable_images_stay_if_the_size_limit_rises(images: Path, tmp_path: Path) -> None:
    (images / "59.jpg").write_bytes(jpeg(59, 120, 100))
    with pytest.raises(DataError, match="max_megapixels is"):
        packed(images, tmp_path / "shards", max_megapixels=0.01)
    assert packed(images, tmp_path / "shards", max_megapixels=1)[0].startswith("goes on after ")


def test_first_image_may_be_unreadable_and_the_next_one_larger_than_a_shard(images: Path, tmp_path: Path) -> None:
    first = permutation(0, "pack/train", length=40).tolist()[0]
    spoil(images, first)
    settings = PackingSettings(unreadable="drop")
    manifest = pack(dataset(images), tmp_path / "shards", settings, shard_bytes=1)
    assert [shard.count for shard in manifest.splits["train"]] == [1] * 39


def test_all_that_follow_finished_shards_may_be_unreadable(images: Path, tmp_path: Path, set_reading) -> None:
    *_, last = permutation(0, "pack/train", length=40).tolist()
    train = dataclasses.replace(dataset(images), splits={"train": dataset(images).splits["train"]})
    settings = PackingSettings(unreadable="drop")

    def fail(name: str) -> None:
        if name == f"{last}.jpg":
            raise ZeroDivisionError

    set_reading(fail)
    with pytest.raises(ZeroDivisionError):
        pack(train, tmp_path / "shards", settings, shard_bytes=1)
    set_reading(None)
    rest = permutation(0, "pack/train", length=40).tolist()[
        len(list((tmp_path / ".shards.packing/records").iterdir())) :
    ]
    spoil(images, *rest)
    assert f"{len(rest)} unreadable image" in pack(train, tmp_path / "shards", settings, shard_bytes=1).remarks[0]
