import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgssl.data.decoding import decode
from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import UnreadableImageError
from fgssl.data.sources.aircraft import LEVELS, SOURCE, AircraftSettings, read
from fgssl.errors import DataError
from fgssl.settings.packing import PackingSettings
from tests.data.trees import edit, message, packed_ids, picture

CLASSES = [("707-320", "Boeing 707", "Boeing"), ("F/A-18", "F/A-18", "McDonnell Douglas")]
ACCEPT = AircraftSettings(accept_counts=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of the lists, with two variants and one image of each in train, val and test."""
    base = tmp_path / "fgvc-aircraft-2013b" / "data"
    lists: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for number, name in enumerate(("train", "val", "test")):
        lists[name] = [(f"{number * 2 + variant:07d}", classes) for variant, classes in enumerate(CLASSES)]
        for image, _ in lists[name]:
            picture(base / "images" / f"{image}.jpg", height=61, width=40)
    lists["trainval"] = lists["train"] + lists["val"]
    for name, rows in lists.items():
        for level, title in enumerate(LEVELS):
            text = "".join(f"{image} {classes[level]}\n" for image, classes in rows)
            (base / f"images_{title}_{name}.txt").write_text(text)
    return base


def read_message(root: Path, options: AircraftSettings = ACCEPT) -> str:
    return message(lambda: read(root, options))


def test_official_split(root: Path) -> None:
    dataset = read(root, ACCEPT)
    assert packed_ids(dataset) == {
        "train": {f"images/{number:07d}.jpg": CLASSES[number % 2] for number in range(4)},
        "test": {f"images/{number:07d}.jpg": CLASSES[number % 2] for number in (4, 5)},
    }
    assert tuple(level.name for level in dataset.levels) == SOURCE.levels
    assert "the official FGVC-Aircraft contains 6,667 train and 3,333 test images (100 x variant," in dataset.remarks[0]


def test_validation_split(root: Path) -> None:
    dataset = read(root, AircraftSettings(accept_counts=True, split="validation"))
    assert {split: list(ids) for split, ids in packed_ids(dataset).items()} == {
        "train": ["images/0000000.jpg", "images/0000001.jpg"],
        "test": ["images/0000002.jpg", "images/0000003.jpg"],
    }
    assert "the official FGVC-Aircraft contains 3,334 train and 3,333 test images" in dataset.remarks[0]
    assert dataset.arguments == {"seed": 0, "split": "validation", "banner": "crop"}


@pytest.mark.parametrize("parents", [1, 2])
def test_parents_of_the_folder(root: Path, parents: int) -> None:
    assert packed_ids(read(root.parents[parents - 1], ACCEPT)) == packed_ids(read(root, ACCEPT))


def test_banner(root: Path) -> None:
    smooth = Image.fromarray(np.linspace(0, 255, 61 * 40 * 3).astype(np.uint8).reshape(61, 40, 3))
    smooth.save(root / "images" / "0000000.jpg", quality=80)
    original = (root / "images" / "0000000.jpg").read_bytes()
    cropped = read(root, ACCEPT).splits["train"][0]().image
    np.testing.assert_allclose(decode(cropped).astype(int), decode(original)[:41].astype(int), atol=3)
    with Image.open(io.BytesIO(cropped)) as image:
        assert image.size == (40, 41)
    kept = read(root, AircraftSettings(accept_counts=True, banner="keep"))
    assert kept.splits["train"][0]().image == original


def test_images_that_cannot_be_cropped(root: Path) -> None:
    recipes = read(root, ACCEPT).splits["train"]
    picture(root / "images" / "0000000.jpg", height=20)
    with pytest.raises(UnreadableImageError, match=r"0000000\.jpg: must be a JPEG that is higher than the 20 pixels"):
        recipes[0]()
    (root / "images" / "0000001.jpg").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"0000001\.jpg: "):
        recipes[1]()


def test_damaged_images_are_refused_unless_they_are_accepted(root: Path, tmp_path: Path) -> None:
    damaged = root / "images" / "0000001.jpg"
    damaged.write_bytes(damaged.read_bytes()[:1200])
    dataset = read(root, ACCEPT)
    with pytest.raises(DataError, match=r"1 image that cannot .*\n  images/0000001\.jpg: Premature end .*accept_dam"):
        pack(dataset, tmp_path / "shards")
    for shorter_side in (256, "original"):
        settings = PackingSettings(accept_damaged=True, shorter_side=shorter_side)
        manifest = pack(dataset, tmp_path / f"shards-{shorter_side}", settings)
        assert any("damaged" in remark and "0000001.jpg (Premature end" in remark for remark in manifest.remarks)
        split = ShardedSplit(tmp_path / f"shards-{shorter_side}", "train")
        assert [decode(split.read(row), strict=True).shape for row in range(4)] == [(41, 40, 3)] * 4


def test_all_faults_at_once(root: Path) -> None:
    (root / "images" / "0000001.jpg").unlink()
    (root / "images_manufacturer_test.txt").unlink()
    edit(root / "images_family_trainval.txt", "0000003 ", "0000009 ")
    edit(root / "images_variant_test.txt", "0000005 F/A-18", "0000005")
    text = read_message(root)
    for expected in (
        "images_variant_trainval.txt:2: images/0000001.jpg is missing",
        "images_manufacturer_test.txt: cannot be read: No such file or directory",
        "images_family_trainval.txt:4: image 0000009 is not in images_variant_trainval.txt",
        "images_family_trainval.txt: lacks image 0000003 of images_variant_trainval.txt",
        "images_variant_test.txt:2: must have the columns image, name",
        "the official FGVC-Aircraft contains 6,667 train",
    ):
        assert expected in text


def test_other_counts_are_refused(root: Path) -> None:
    assert (
        "found 4 train and 2 test images (2 x variant, 2 x family, 2 x manufacturer), but the official"
        in read_message(root, AircraftSettings())
    )


def test_another_folder(tmp_path: Path) -> None:
    assert "no FGVC-Aircraft here: images_variant_test.txt must be in" in read_message(tmp_path)
