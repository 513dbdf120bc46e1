from pathlib import Path

import pytest

from fgssl.data.sources.food101 import SOURCE, Food101Settings, read
from tests.data.trees import message, packed_ids, picture

SMALL = Food101Settings(accept_counts=True)
LISTS = {"train": ["apple_pie/1", "waffles/2"], "test": ["apple_pie/3", "waffles/4"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "food-101"
    (base / "meta").mkdir(parents=True)
    for split, names in LISTS.items():
        (base / "meta" / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            picture(base / "images" / f"{name}.jpg")
    return base


@pytest.mark.parametrize("inside", [True, False])
def test_classes_and_splits(root: Path, inside: bool) -> None:
    dataset = read(root if inside else root.parent, SMALL)
    assert tuple(level.name for level in dataset.levels) == SOURCE.levels
    assert packed_ids(dataset) == {
        split: {f"images/{name}.jpg": (name.split("/")[0],) for name in names} for split, names in LISTS.items()
    }


def test_faults_counts_and_other_folders(root: Path) -> None:
    assert "food101: found 2 train and 2 test images (2 x class)" in message(lambda: read(root, Food101Settings()))
    (root / "images" / "waffles" / "4.jpg").unlink()
    picture(root / "images" / "waffles" / "5.jpg")
    text = message(lambda: read(root, SMALL))
    assert f"{root}/meta/test.txt:2: waffles/4.jpg is missing in {root}/images" in text
    (root / "meta" / "test.txt").write_text("apple_pie/3")
    (root / "meta" / "train.txt").write_text("apple_pie/1")
    unlisted = read(root, SMALL).remarks[0]
    assert unlisted.startswith("2 images left out, since the lists in meta do not name them:\n  waffles/2.jpg")
    assert "no Food-101 here" in message(lambda: read(root / "images", SMALL))
