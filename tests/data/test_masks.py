"""Masks of objects: packed beside images from a folder that mirrors them, and read as they were."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import ExifTags, Image

from fgssl.commands.pack import command
from fgssl.data.masks import Mask
from fgssl.data.shards import ShardedSplit
from fgssl.errors import DataError, UserError
from fgssl.store.manifest import Manifest, verify
from tests.data.photos import jpeg, packed

WIDTH, HEIGHT = 48, 36


def ellipse(number: int, width: int = WIDTH, height: int = HEIGHT) -> Mask:
    down, across = np.mgrid[:height, :width]
    return ((down / height - 0.5) ** 2 + (across / width - 0.5) ** 2) < 0.02 + number / 1000


def save(path: Path, mask: Mask, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask * np.uint8(value)).save(path)


@pytest.fixture
def masks(images: Path, tmp_path: Path) -> Path:
    """Return the masks of the 60 images of 48 x 36 pixels: gray with three values, or black and white."""
    for number in range(60):
        path = tmp_path / "masks" / f"{number}.png"
        save(path, ellipse(number), value=204)
        if number % 2:
            Image.fromarray(ellipse(number)).save(path)
    return tmp_path / "masks"


def refused(images: Path, destination: Path, **settings: object) -> str:
    with pytest.raises(DataError) as caught:
        packed(images, destination, **settings)
    return str(caught.value)


def split_of(folder: Path) -> ShardedSplit:
    return ShardedSplit(folder, "train")


# --------------------------------------------------------------------------------------- as they were


def test_masks_come_back_as_they_were(images: Path, masks: Path, tmp_path: Path) -> None:
    packed(images, tmp_path / "shards", masks=str(masks))
    manifest = verify(tmp_path / "shards")
    assert manifest.masks
    assert len(manifest.splits["train"]) > 1
    for name in ("train", "test"):
        split = ShardedSplit(tmp_path / "shards", name)
        for row, source_id in enumerate(split.source_ids):
            assert (split.mask(row) == ellipse(int(Path(source_id).stem))).all()
            assert split.mask(row).shape == split.pixels(row).shape[:2]


def test_without_masks_shards_are_as_before(images: Path, masks: Path, tmp_path: Path) -> None:
    packed(images, tmp_path / "plain")
    packed(images, tmp_path / "masked", masks=str(masks))
    plain, masked = Manifest.read(tmp_path / "plain"), Manifest.read(tmp_path / "masked")
    assert "mask" not in plain.to_json()
    assert plain.arguments == masked.arguments
    assert plain.version != masked.version
    with h5py.File(tmp_path / "plain" / "train-00000.h5") as file:
        assert sorted(file) == ["attributes", "groups", "images", "labels", "offsets", "source_ids"]
    split = split_of(tmp_path / "plain")
    with pytest.raises(DataError, match=r"plain: has no masks: pack the dataset again with masks=FOLDER"):
        split.mask(0)
    by_name = {name: split_of(tmp_path / "masked").read(row) for row, name in enumerate(split.source_ids)}
    assert [split.read(row) for row in range(len(split))] == [by_name[name] for name in split.source_ids]


def test_any_number_of_threads_writes_the_same_bytes(images: Path, masks: Path, tmp_path: Path) -> None:
    found = []
    for workers in (1, 3):
        packed(images, tmp_path / str(workers), masks=str(masks), workers=workers)
        found.append({file.name: file.read_bytes() for file in (tmp_path / str(workers)).iterdir()})
    assert found[0] == found[1]


def test_masks_shrink_with_their_images(images: Path, masks: Path, tmp_path: Path) -> None:
    packed(images, tmp_path / "shards", masks=str(masks), shorter_side=18)
    split = split_of(tmp_path / "shards")
    for row, source_id in enumerate(split.source_ids):
        whole = ellipse(int(Path(source_id).stem))
        halves = whole.reshape(18, 2, 24, 2).sum(axis=(1, 3)) >= 2  # at least half of the four pixels
        assert split.pixels(row).shape == (18, 24, 3)
        assert (split.mask(row) == halves).all()


def test_masks_are_those_of_upright_images(images: Path, masks: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a quarter turn
    (images / "4.jpg").write_bytes(jpeg(4, exif=exif.tobytes()))
    message = refused(images, tmp_path / "shards", masks=str(masks))
    assert "4.jpg: mask" in message
    assert "has 48 x 36 pixels, but the upright image has 36 x 48: make them equal" in message
    save(masks / "4.png", ellipse(4, width=HEIGHT, height=WIDTH))
    for side in ("original", 256):
        packed(images, tmp_path / str(side), masks=str(masks), shorter_side=side)
        split = split_of(tmp_path / str(side))
        row = list(split.source_ids).index("4.jpg")
        assert split.mask(row).shape == split.pixels(row).shape[:2] == (WIDTH, HEIGHT)


# ------------------------------------------------------------------------------------------- refused


def test_all_missing_masks_are_listed_and_never_left_out(images: Path, masks: Path, tmp_path: Path) -> None:
    for number in (3, 50):
        (masks / f"{number}.png").unlink()
    for unreadable in ("refuse", "drop"):
        message = refused(images, tmp_path / "shards", masks=str(masks), unreadable=unreadable)
        assert message.startswith("2 images that cannot be packed:\n")
        assert f"3.jpg: mask {masks}/3.png is missing" in message
        assert f"50.jpg: mask {masks}/50.png is missing" in message
        assert "restore or remove these" in message
    assert not (tmp_path / "shards").exists()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _jpeg(path: Path) -> None:
    Image.fromarray(ellipse(0) * np.uint8(255)).save(path, "JPEG")


def _colored(path: Path) -> None:
    Image.fromarray(ellipse(0) * np.uint8(255)).convert("RGB").save(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_empty, "is not an image file"),
        (_jpeg, "is a JPEG of mode L: it must be a PNG in gray"),
        (_colored, "is a PNG of mode RGB: it must be a PNG in gray"),
        (lambda path: save(path, ellipse(0, width=40)), "has 40 x 36 pixels, but the upright image has 48 x 36"),
        (lambda path: save(path, ellipse(0), value=1), "has no value above 1: give the object values of 128 to 255"),
        (lambda path: save(path, ellipse(0), value=127), "has no value above 127: give the object"),
    ],
)
def test_wrong_masks_are_named_and_may_be_left_out(
    damage: Callable[[Path], None], reason: str, images: Path, masks: Path, tmp_path: Path
) -> None:
    damage(masks / "7.png")
    message = refused(images, tmp_path / "shards", masks=str(masks))
    assert f"7.jpg: mask {masks}/7.png {reason}" in message
    remarks = packed(images, tmp_path / "shards", masks=str(masks), unreadable="drop")
    assert remarks[-1].startswith("1 unreadable image left out:\n  7.jpg: mask ") or "left out" in remarks[0]
    assert len(split_of(tmp_path / "shards")) == 39


def test_a_mask_without_an_object_is_a_remark(images: Path, masks: Path, tmp_path: Path) -> None:
    save(masks / "7.png", np.zeros((HEIGHT, WIDTH), dtype=np.bool_))
    (remark,) = packed(images, tmp_path / "shards", masks=str(masks))
    assert remark == "1 image with a mask that marks no object, so that their background is never replaced:\n  7.jpg"


@pytest.mark.parametrize(("name", "reason"), [("nowhere", "does not exist"), ("images", "holds no PNG files")])
def test_a_folder_without_masks_is_refused(name: str, reason: str, images: Path, tmp_path: Path) -> None:
    message = refused(images, tmp_path / "shards", masks=str(tmp_path / name))
    assert message.startswith(f"masks: {tmp_path / name}: {reason}: give a folder with a mask for each image")


def test_the_built_in_dataset_takes_no_masks(tmp_path: Path, masks: Path) -> None:
    with pytest.raises(UserError, match=r"^masks: source toy draws its images"):
        command.main(["toy", str(tmp_path / "toy"), f"masks={masks}"], standalone_mode=False)


# ------------------------------------------------------------------------------------------- resumed


def test_an_interrupted_packing_goes_on_unless_masks_change(images: Path, masks: Path, tmp_path: Path) -> None:
    expected = tmp_path / "straight"
    packed(images, expected, masks=str(masks))
    (images / "59.jpg").rename(tmp_path / "59.jpg")
    (images / "59.jpg").write_bytes(b"broken")
    for name in ("same", "changed"):
        refused(images, tmp_path / name, masks=str(masks))
    (tmp_path / "59.jpg").replace(images / "59.jpg")
    assert packed(images, tmp_path / "same", masks=str(masks))[0].startswith("goes on after")
    assert {file.name: file.read_bytes() for file in (tmp_path / "same").iterdir()} == {
        file.name: file.read_bytes() for file in expected.iterdir()
    }
    save(masks / "0.png", ellipse(30))
    remark = packed(images, tmp_path / "changed", masks=str(masks))[0]
    assert remark.startswith("discards")
    assert "the SHA-256 of the masks' names, sizes and times was" in remark
    split = split_of(tmp_path / "changed")
    if "0.jpg" in (names := list(split.source_ids)):
        assert (split.mask(names.index("0.jpg")) == ellipse(30)).all()


# ----------------------------------------------------------------------------------------- by sources


def test_folders_and_names_are_mirrored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{split}/{kind}/{number}.x.JPG" for split in ("train", "test") for kind in "ab" for number in range(2)]
    for number, name in enumerate(names):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
        save(tmp_path / "masks" / f"{name[:-4]}.png", ellipse(number))
    arguments = ["folder", str(tmp_path / "photos"), str(tmp_path / "shards"), f"masks={tmp_path / 'masks'}"]
    command.main(arguments, standalone_mode=False)
    assert "dataset photos, 2 x class, with masks\n" in capsys.readouterr().out
    for split in ("train", "test"):
        found = ShardedSplit(tmp_path / "shards", split)
        for row, name in enumerate(found.source_ids):
            assert (found.mask(row) == ellipse(names.index(name))).all()


def test_a_first_folder_images_need_not_be_mirrored(tmp_path: Path) -> None:
    """As in CUB-200: images/CLASS/NAME.jpg and segmentations/CLASS/NAME.png."""
    for kind, number in [("a", 0), ("a", 1), ("b", 2), ("b", 3)]:
        path = tmp_path / "photos" / "images" / kind / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
        save(tmp_path / "masks" / kind / f"{number}.png", ellipse(number))
    settings = ["test_fraction=0.5", "levels=[species,root]", f"masks={tmp_path / 'masks'}"]
    arguments = ["folder", str(tmp_path / "photos"), str(tmp_path / "shards"), *settings]
    command.main(arguments, standalone_mode=False)
    found = split_of(tmp_path / "shards")
    for row, name in enumerate(found.source_ids):
        assert name.startswith("images/")
        assert (found.mask(row) == ellipse(int(Path(name).stem))).all()


# ------------------------------------------------------------------------------------------- damaged


def test_a_damaged_mask_is_no_mask(images: Path, masks: Path, tmp_path: Path) -> None:
    packed(images, tmp_path / "shards", masks=str(masks))
    path = tmp_path / "shards" / "train-00000.h5"
    with h5py.File(path) as file:
        start, length = file["masks"].id.get_offset(), int(file["mask_offsets"][1])
    with path.open("r+b") as raw:
        raw.seek(start)
        raw.write(bytes(length))
    with pytest.raises(ValueError, match="the mask is no PNG file"):
        split_of(tmp_path / "shards").mask(0)


@pytest.mark.parametrize("lacking", ["masks", "mask_offsets"])
def test_shards_that_lack_masks_of_the_manifest_are_refused(
    lacking: str, images: Path, masks: Path, tmp_path: Path
) -> None:
    packed(images, tmp_path / "shards", masks=str(masks))
    path = tmp_path / "shards" / "train-00000.h5"
    size = path.stat().st_size
    with h5py.File(path, "r+") as file:
        del file[lacking]
    os.truncate(path, size)
    with pytest.raises(DataError, match="shard is damaged"):
        split_of(tmp_path / "shards")


def test_another_process_reads_masks_too(images: Path, masks: Path, tmp_path: Path) -> None:
    packed(images, tmp_path / "shards", masks=str(masks))
    shutil.copytree(tmp_path / "shards", tmp_path / "copy")
    kind, arguments = split_of(tmp_path / "copy").__reduce__()
    assert (kind(*arguments).mask(3) == split_of(tmp_path / "shards").mask(3)).all()


def test_a_mask_takes_one_bit_per_pixel_at_most(images: Path, masks: Path, tmp_path: Path) -> None:
    packed(images, tmp_path / "shards", masks=str(masks))
    with h5py.File(tmp_path / "shards" / "train-00000.h5") as file:
        first = bytes(file["masks"][: int(file["mask_offsets"][1])])
    assert Image.open(io.BytesIO(first)).mode == "1"
    assert len(first) < WIDTH * HEIGHT / 8
