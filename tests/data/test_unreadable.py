"""Images that cannot be packed, and are left out."""

from pathlib import Path

import pytest

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.errors import DataError
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


def test_nothing_left_of_a_class_or_of_a_split(images: Path, tmp_path: Path) -> None:
    spoil(images, *range(41, 60, 2))  # class b of test
    *_, remark = packed(images, tmp_path / "shards", unreadable="drop")
    assert remark == "1 class without images in test:\n  b"
    spoil(images, *range(40, 60))
    with pytest.raises(DataError, match="split test: no image is left: 20 images that cannot be packed:"):
        packed(images, tmp_path / "empty", unreadable="drop")
    assert not (tmp_path / "empty").exists()
