from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from scipy.io import savemat

from fgssl.data.sources.flowers102 import SOURCE, Flowers102Settings, read
from tests.data.trees import message, packed_ids, picture

LABELS = [2, 1, 10, 2, 1, 10, 2, 1, 10]
SETS = {"trnid": [1, 2, 3], "valid": [6, 5, 4], "tstid": [7, 8, 9]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(1, 10):
        picture(tmp_path / "jpg" / f"image_{number:05d}.jpg")
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([LABELS], dtype=np.uint8)})
    savemat(tmp_path / "setid.mat", {name: np.array([ids], dtype=np.uint16) for name, ids in SETS.items()})
    return tmp_path


def small(split: Literal["official", "train", "validation"] = "official") -> Flowers102Settings:
    return Flowers102Settings(split=split, accept_counts=True)


@pytest.mark.parametrize(
    ("split", "train", "test"),
    [("official", "123456", "789"), ("train", "123", "789"), ("validation", "123", "456")],
)
def test_splits_and_labels(
    root: Path, split: Literal["official", "train", "validation"], train: str, test: str
) -> None:
    dataset = read(root, small(split))
    assert tuple(level.name for level in dataset.levels) == SOURCE.levels
    assert dataset.levels[0].classes == ("1", "2", "10")
    assert packed_ids(dataset) == {
        name: {f"jpg/image_0000{number}.jpg": (str(LABELS[int(number) - 1]),) for number in numbers}
        for name, numbers in (("train", train), ("test", test))
    }
    assert dataset.arguments["split"] == split


def test_all_faults_at_once(root: Path) -> None:
    (root / "jpg" / "image_00001.jpg").unlink()
    savemat(root / "imagelabels.mat", {"labels": np.array([LABELS[:-1]])})
    text = message(lambda: read(root, small()))
    assert f"{root}/jpg/image_00001.jpg: is missing, but setid.mat lists it" in text
    assert f"{root}/imagelabels.mat: has no label of image_00009.jpg" in text
    assert "contains 2,040 train and 6,149 test images (102 x class)" in text
    (root / "imagelabels.mat").write_bytes(b"x")
    savemat(root / "setid.mat", {"trnid": [1]})
    text = message(lambda: read(root, small()))
    assert "imagelabels.mat: cannot be read: " in text
    assert "setid.mat: has no variable valid" in text


def test_other_counts_and_folders(root: Path) -> None:
    assert "found 6 train and 3 test images (3 x class)" in message(lambda: read(root, Flowers102Settings()))
    assert "no Oxford 102 Flowers here" in message(lambda: read(root / "jpg", small()))
