from pathlib import Path

import pytest

from fgssl.data.sources.pets import SOURCE, PetsSettings, read
from tests.data.trees import edit, message, packed_ids, picture

SMALL = PetsSettings(accept_counts=True)
TRAIN = "Abyssinian_100 1 1 1\namerican_bulldog_1 2 2 1\n"
TEST = "Abyssinian_2 1 1 1\namerican_bulldog_20 2 2 1\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    for name, text in (("trainval", TRAIN), ("test", TEST)):
        (tmp_path / "annotations" / f"{name}.txt").write_text(text)
        for line in text.splitlines():
            picture(tmp_path / "images" / f"{line.split()[0]}.jpg")
    return tmp_path


def test_breeds_and_species(root: Path) -> None:
    dataset = read(root, SMALL)
    assert tuple(level.name for level in dataset.levels) == SOURCE.levels
    assert packed_ids(dataset) == {
        "train": {
            "images/Abyssinian_100.jpg": ("Abyssinian", "cat"),
            "images/american_bulldog_1.jpg": ("american_bulldog", "dog"),
        },
        "test": {
            "images/Abyssinian_2.jpg": ("Abyssinian", "cat"),
            "images/american_bulldog_20.jpg": ("american_bulldog", "dog"),
        },
    }


def test_all_faults_at_once(root: Path) -> None:
    (root / "images" / "Abyssinian_100.jpg").unlink()
    edit(root / "annotations" / "test.txt", "20 2 2 1", "20 2 3 1")
    (root / "images" / "Bombay_1.mat").write_text("not an image")
    text = message(lambda: read(root, SMALL))
    assert f"{root}/annotations/trainval.txt:1: Abyssinian_100.jpg is missing in {root}/images" in text
    assert f"{root}/annotations/test.txt:2: species 3 of american_bulldog_20 is not 1 (cat) or 2 (dog)" in text
    assert "the official Oxford Pets contains 3,680 train and 3,669 test images" in text


def test_other_counts_files_and_folders(root: Path) -> None:
    picture(root / "images" / "Bombay_1.jpg")
    assert "the annotations do not list it:\n  Bombay_1.jpg" in read(root, SMALL).remarks[0]
    assert "pets: found 2 train and 2 test images (2 x breed, 2 x species)" in message(
        lambda: read(root, PetsSettings())
    )
    assert "no Oxford Pets here" in message(lambda: read(root / "images", SMALL))


def test_an_image_of_both_lists_is_a_fault(root: Path) -> None:
    edit(root / "annotations" / "test.txt", "Abyssinian_2 ", "Abyssinian_100 ")
    assert "images/Abyssinian_100.jpg: is in train and test" in message(lambda: read(root, SMALL))
