import copy
import io
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from fgssl.data.inspection import CAPTION, CLASSES_SHOWN, COLUMNS, TILE, TILES, contact_sheet, overview
from fgssl.data.masks import encoded_mask
from fgssl.data.packing import pack
from fgssl.data.source import Sample, SourceDataset
from fgssl.data.sources.encoded_image import png
from fgssl.store.manifest import Level


def sample(label: int, number: int, labeled: bool) -> Sample:
    gray = Image.fromarray(np.full((10 + number % 3, 20), label % 256, dtype=np.uint8))
    return Sample(png(gray), (label,) if labeled else (), f"{label}/{number}.png")


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def packed(folder: Path, counts: list[int], labeled: bool = True) -> Path:
    """Pack so many images of each class; class N has gray value N."""
    recipes = [partial(sample, label, number, labeled) for label, count in enumerate(counts) for number in range(count)]
    levels = (Level("species", tuple(f"kind {label}" for label in range(len(counts)))),) if labeled else ()
    pack(SourceDataset("made-up", "test", {}, levels, {"train": recipes}), folder / "shards")
    return folder / "shards"


def test_few_classes_are_all_listed(tmp_path: Path) -> None:
    lines = [line.split() for line in overview(packed(tmp_path, [3, 1])).splitlines()]
    assert ["kind", "0", "3"] in lines
    assert ["kind", "1", "1"] in lines
    (sizes,) = [line for line in lines if line[:1] == ["train:"]]
    assert " ".join(sizes) == ("train: 4 images; width in px: 20; height in px: 10 to 12, median 10.5; 4 PNG (L)")


def test_many_classes_stay_readable(tmp_path: Path) -> None:
    counts = [2] * 300
    counts[77], counts[123] = 1, 9
    text = overview(packed(tmp_path, counts))
    lines = text.splitlines()
    assert len(lines) < CLASSES_SHOWN
    assert "  images per class in train: 1 to 9, median 2" in lines
    assert lines[4].split() == ["kind", "77", "1"]
    assert ["kind", "123", "9"] in [line.split() for line in lines]


def tile(sheet: np.ndarray, place: int) -> int:
    """Return the gray value in the middle of a tile of the first split."""
    y = CAPTION + (TILE + CAPTION) * (place // COLUMNS) + TILE // 2
    return int(sheet[y, TILE * (place % COLUMNS) + TILE // 2, 0])


def test_contact_sheet_shows_the_classes_in_order(tmp_path: Path) -> None:
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(packed(tmp_path, [2, 1, 40])))))
    assert [tile(sheet, place) for place in range(24)] == [0, 0, 1, *[2] * (TILES // 3), 255]


def test_contact_sheet_is_dark_but_for_the_objects(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), dtype=np.bool_)
    mask[:, 20:] = True
    for encode, name in ((png, "png"), (jpeg, "jpeg")):
        image = Sample(encode(Image.new("RGB", (40, 30), (120, 120, 120))), (), f"1.{name}", mask=encoded_mask(mask))
        dataset = SourceDataset(
            "made-up", "test", {}, (), {"train": [partial(copy.copy, image)]}, drawn=True, masked=True
        )
        pack(dataset, tmp_path / name)
        sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(tmp_path / name))))
        y, middle = CAPTION + TILE // 2, TILE // 2
        assert abs(sheet[y, middle - 10].astype(int) - 40).max() <= 2
        assert abs(sheet[y, middle + 10].astype(int) - 120).max() <= 2


def test_contact_sheet_of_many_classes_shows_one_image_of_evenly_chosen_ones(tmp_path: Path) -> None:
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(packed(tmp_path, [1] * 120)))))
    assert [tile(sheet, place) for place in range(TILES)] == list(range(0, 120, 2))


def test_contact_sheet_of_unlabeled_images(tmp_path: Path) -> None:
    sheet = Image.open(io.BytesIO(contact_sheet(packed(tmp_path, [3], labeled=False))))
    assert sheet.size == (TILE * COLUMNS, 2 * CAPTION + TILE)


def test_remarks_of_packing_are_shown(tmp_path: Path) -> None:
    splits = {"train": [partial(sample, 0, 0, True)], "test": [partial(sample, 0, 0, True)]}
    pack(SourceDataset("made-up", "test", {}, (Level("species", ("a",)),), splits), tmp_path / "shards")
    remark = "packing remarked: 1 image of test equal byte for byte in train:\n  0/0.png = 0/0.png"
    assert overview(tmp_path / "shards").endswith(remark)
    assert "packing remarked" not in overview(packed(tmp_path / "other", [1, 1]))


def test_small_images_are_enlarged_by_a_whole_number(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 40, 3), dtype=np.uint8)
    recipes = {"train": [partial(Sample, png(Image.fromarray(pixels)), (), "1.png")]}
    pack(SourceDataset("made-up", "test", {}, (), recipes), tmp_path / "shards")
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(tmp_path / "shards"))))
    left, top = (TILE - 3 * 40) // 2, CAPTION + (TILE - 3 * 16) // 2
    assert (sheet[top : top + 3 * 16, left : left + 3 * 40] == pixels.repeat(3, axis=0).repeat(3, axis=1)).all()
