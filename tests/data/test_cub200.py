from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.sources.cub200 import OFFICIAL, SOURCE, CUB200Settings, read
from fgssl.data.sources.cub200_taxonomy import FAMILY_OF, ORDER_OF
from fgssl.settings.packing import PackingSettings
from tests.data.trees import edit, message, packed_ids, picture

BIRDS = ("001.Laysan_Albatross", "002.Mallard", "003.Western_Gull")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a subset of three species, each with two training images and one test image."""
    base = tmp_path / "CUB_200_2011"
    paths = [f"{bird}/{bird[4:]}_{number:04d}.jpg" for bird in BIRDS for number in range(3)]
    for path in paths:
        picture(base / "images" / path)
    write = {
        "classes.txt": [f"{number} {bird}" for number, bird in enumerate(BIRDS, start=1)],
        "images.txt": [f"{number} {path}" for number, path in enumerate(paths, start=1)],
        "image_class_labels.txt": [f"{number + 1} {number // 3 + 1}" for number in range(9)],
        "train_test_split.txt": [f"{number + 1} {int(number % 3 < 2)}" for number in range(9)],
    }
    for name, lines in write.items():
        (base / name).write_text("".join(f"{line}\n" for line in lines))
    return base


def read_message(root: Path) -> str:
    return message(lambda: read(root, CUB200Settings()))


def test_labels_and_splits(root: Path) -> None:
    dataset = read(root, CUB200Settings())
    assert tuple(level.name for level in dataset.levels) == SOURCE.levels == tuple(OFFICIAL.classes)
    found = packed_ids(dataset)
    assert {split: len(ids) for split, ids in found.items()} == {"train": 6, "test": 3}
    assert found["test"] == {
        "images/001.Laysan_Albatross/Laysan_Albatross_0002.jpg": (BIRDS[0], "Diomedeidae", "Procellariiformes"),
        "images/002.Mallard/Mallard_0002.jpg": (BIRDS[1], "Anatidae", "Anseriformes"),
        "images/003.Western_Gull/Western_Gull_0002.jpg": (BIRDS[2], "Laridae", "Charadriiformes"),
    }
    assert dataset.remarks == (
        "packed 6 train and 3 test images (3 x species, 3 x family, 3 x order); the official CUB-200-2011 contains "
        "5,994 train and 5,794 test images (200 x species, 37 x family, 13 x order)",
    )


def test_folder_or_its_parent(root: Path) -> None:
    assert packed_ids(read(root, CUB200Settings())) == packed_ids(read(root.parent, CUB200Settings()))


def test_segmentations_are_masks(root: Path, tmp_path: Path) -> None:
    """As the archive segmentations.tgz unpacks beside the images: CLASS/NAME.png, gray."""
    for image in (root / "images").rglob("*.jpg"):
        mask = root / "segmentations" / image.parent.name / f"{image.stem}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        values = np.zeros((6, 5), dtype=np.uint8)
        values[2:5, 1 : 2 + int(image.stem[-1])] = 204
        Image.fromarray(values).save(mask)
    settings = PackingSettings(masks=str(root / "segmentations"))
    assert pack(read(root, CUB200Settings()), tmp_path / "shards", settings).masks
    train = ShardedSplit(tmp_path / "shards", "train")
    shares = [train.mask(row).sum() for row in range(len(train))]
    assert shares == [3 * (1 + int(Path(name).stem[-1])) for name in train.source_ids]


def test_taxonomy() -> None:
    assert (len(FAMILY_OF), len(ORDER_OF), len(set(ORDER_OF.values()))) == (200, 37, 13)
    assert set(FAMILY_OF.values()) == set(ORDER_OF)


def test_own_families(root: Path) -> None:
    rows = zip(BIRDS, ("Anatidae", "Anatidae", "Alcidae"), strict=True)
    (root / "families.csv").write_text("class,family\n" + "".join(f"{bird},{family}\n" for bird, family in rows))
    dataset = read(root, CUB200Settings())
    assert [level.classes for level in dataset.levels[1:]] == [
        ("Alcidae", "Anatidae"),
        ("Anseriformes", "Charadriiformes"),
    ]
    edit(root / "families.csv", "002.Mallard,Anatidae", "002.Mallard,Ducks")
    edit(root / "families.csv", "003.Western_Gull,Alcidae\n", "")
    text = read_message(root)
    assert "families.csv:3: family Ducks must be one of Anatidae, Trochilidae" in text
    assert "003.Western_Gull has no family: " in text


def test_all_faults_at_once(root: Path) -> None:
    (root / "images" / BIRDS[0] / "Laysan_Albatross_0001.jpg").unlink()
    edit(root / "images.txt", "9 003", "10 003")
    edit(root / "image_class_labels.txt", "4 2\n", "4 0\n")
    edit(root / "train_test_split.txt", "5 1\n", "5 yes\n5 1\n")
    edit(root / "train_test_split.txt", "6 0\n", "")
    edit(root / "classes.txt", "001.Laysan_Albatross", "001.Dodo")
    text = read_message(root)
    for expected in (
        "images.txt:2: 001.Laysan_Albatross/Laysan_Albatross_0001.jpg is missing in images",
        "image_class_labels.txt: lacks image 10 of images.txt",
        "image_class_labels.txt:9: image 9 is not in images.txt",
        "image_class_labels.txt:4: class 0 of image 4 must be one of the 3 in classes.txt",
        "train_test_split.txt:5: is_training yes of image 5 must be one of 1 and 0",
        "train_test_split.txt:6: a second row for 5; the first is in line 5",
        "train_test_split.txt: lacks image 6 of images.txt",
        "001.Dodo has no family: it is not one of the 200 species: add ",
        "the official CUB-200-2011 contains 5,994 train and 5,794 test images",
    ):
        assert expected in text


@pytest.mark.parametrize("name", ["classes.txt", "image_class_labels.txt", "train_test_split.txt"])
def test_missing_list(root: Path, name: str) -> None:
    (root / name).unlink()
    assert f"CUB_200_2011/{name}: cannot be read: No such file or directory" in read_message(root)


def test_class_without_images_in_a_split(root: Path) -> None:
    edit(root / "train_test_split.txt", "3 0\n", "3 1\n")
    assert "class 001.Laysan_Albatross: no images in test" in read_message(root)


def test_images_that_no_list_names(root: Path) -> None:
    picture(root / "images" / BIRDS[0] / "copy.jpg")
    (root / "images" / BIRDS[0] / "._copy.jpg").touch()
    remark = read(root, CUB200Settings()).remarks[0]
    assert remark == "1 image left out, since images.txt does not list it:\n  images/001.Laysan_Albatross/copy.jpg"


def test_another_folder(tmp_path: Path) -> None:
    text = read_message(tmp_path)
    assert "no CUB-200-2011 here" in text
    assert "images.txt must be in " in text
    assert "give the folder that the official archives were unpacked into" in text
