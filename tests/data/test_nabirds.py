from pathlib import Path

import pytest

from fgssl.data.sources.nabirds import SOURCE, NABirdsSettings, read
from tests.data.trees import edit, message, packed_ids, picture

SMALL = NABirdsSettings(accept_counts=True)
CLASSES = """\
0 Birds
1 Ducks, Geese, and Swans
30 Dabbling Ducks
400 Mallard
817 Mallard (Breeding male)
900 American Wigeon
"""
IMAGES = {"a-1": ("0817/a1.jpg", "817", "1"), "b-2": ("0900/b2.jpg", "900", "1"), "c-3": ("0817/c3.jpg", "817", "0")}
IMAGES["d-4"] = ("0900/d4.jpg", "900", "0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "nabirds"
    for path, _, _ in IMAGES.values():
        picture(base / "images" / path)
    (base / "classes.txt").write_text(CLASSES)
    (base / "hierarchy.txt").write_text("1 0\n30 1\n400 30\n817 400\n900 30\n")
    (base / "images.txt").write_text("".join(f"{image} {path}\n" for image, (path, _, _) in IMAGES.items()))
    (base / "image_class_labels.txt").write_text("".join(f"{image} {of}\n" for image, (_, of, _) in IMAGES.items()))
    (base / "train_test_split.txt").write_text("".join(f"{image} {side}\n" for image, (_, _, side) in IMAGES.items()))
    return base


@pytest.mark.parametrize("inside", [True, False])
def test_levels_follow_the_hierarchy(root: Path, inside: bool) -> None:
    dataset = read(root if inside else root.parent, SMALL)
    assert tuple(level.name for level in dataset.levels) == SOURCE.levels
    above = ("Dabbling Ducks", "Ducks, Geese, and Swans")
    mallard = ("Mallard (Breeding male)", "Mallard", *above)
    wigeon = ("American Wigeon", "American Wigeon", *above)
    assert packed_ids(dataset) == {
        "train": {"images/0817/a1.jpg": mallard, "images/0900/b2.jpg": wigeon},
        "test": {"images/0817/c3.jpg": mallard, "images/0900/d4.jpg": wigeon},
    }


def test_all_faults_at_once(root: Path) -> None:
    (root / "images" / "0900" / "b2.jpg").unlink()
    edit(root / "image_class_labels.txt", "a-1 817\n", "")
    edit(root / "train_test_split.txt", "c-3 0", "c-3 2")
    text = message(lambda: read(root, SMALL))
    for expected in (
        f"{root}/images.txt:1: a-1 is not in image_class_labels.txt and train_test_split.txt",
        f"{root}/images.txt:2: 0900/b2.jpg is missing in {root}/images",
        f"{root}/images.txt:3: c-3 has class 817 and split 2",
        "the official NABirds contains 23,929 train and 24,633 test images (555 x category)",
    ):
        assert expected in text


def test_other_counts_files_and_folders(root: Path) -> None:
    picture(root / "images" / "0900" / "z.jpg")
    assert read(root, SMALL).remarks[0] == "1 image left out, since images.txt does not list it:\n  0900/z.jpg"
    assert "nabirds: found 2 train and 2 test images (2 x category" in message(lambda: read(root, NABirdsSettings()))
    assert "no NABirds here" in message(lambda: read(root / "images", SMALL))
