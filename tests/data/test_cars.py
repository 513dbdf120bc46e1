from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fgssl.data.sources.cars import OFFICIAL, SOURCE, CarsSettings, read
from tests.data.trees import message, packed_ids, picture

NAMES = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012")
MAKES = ("AM General", "Acura", "Ram")
ACCEPT = CarsSettings(accept_counts=True)


def save(path: Path, rows: Sequence[tuple[object, ...]], fields: Sequence[str]) -> None:
    """Save annotations as the devkit has them: an array of structures, with the class names beside."""
    boxes = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    records = np.zeros((1, len(rows)), dtype=[(name, object) for name in (*boxes, *fields)])
    for record, row in zip(records[0], rows, strict=True):
        for name in boxes:
            record[name] = np.uint8(1)
        for name, value in zip(fields, row, strict=True):
            record[name] = np.uint8(value) if isinstance(value, int) else value
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": records, "class_names": np.array([NAMES], dtype=object)})


ROWS = [(1, "00001.jpg"), (2, "00002.jpg"), (3, "00003.jpg")]
EXPECTED = {
    split: {f"cars_{split}/{name}": (NAMES[number - 1], MAKES[number - 1]) for number, name in ROWS}
    for split in ("train", "test")
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "stanford_cars"
    for split in ("train", "test"):
        for _, name in ROWS:
            picture(base / f"cars_{split}" / name)
    save(base / "devkit" / "cars_meta.mat", [], ("class", "fname"))
    save(base / "devkit" / "cars_train_annos.mat", ROWS, ("class", "fname"))
    save(base / "devkit" / "cars_test_annos.mat", [(name,) for _, name in ROWS], ("fname",))
    save(base / "cars_test_annos_withlabels.mat", ROWS, ("class", "fname"))
    return base


def read_message(root: Path, options: CarsSettings = ACCEPT) -> str:
    return message(lambda: read(root, options))


def test_official_layout(root: Path) -> None:
    dataset = read(root, ACCEPT)
    assert packed_ids(dataset) == EXPECTED == packed_ids(read(root.parent, ACCEPT))
    assert tuple(level.name for level in dataset.levels) == SOURCE.levels == tuple(OFFICIAL.classes)
    assert len(dataset.remarks) == 1
    assert "packed 3 train and 3 test images (3 x model, 3 x make); the official Stanford Cars" in dataset.remarks[0]


def test_other_counts_are_refused(root: Path) -> None:
    text = read_message(root, CarsSettings())
    assert (
        "found 3 train and 3 test images (3 x model, 3 x make), but the official Stanford Cars contains 8,144" in text
    )


@pytest.mark.parametrize("devkit", ["car_devkit/devkit", "."])
def test_other_places_of_the_devkit(root: Path, devkit: str) -> None:
    (root / devkit).mkdir(parents=True, exist_ok=True)
    for file in list((root / "devkit").iterdir()):
        file.rename(root / devkit / file.name)
    (root / "cars_test_annos_withlabels.mat").rename(root / devkit / "cars_test_annos_withlabels.mat")
    assert packed_ids(read(root, ACCEPT)) == EXPECTED


def test_nested_folders_of_a_mirror(root: Path) -> None:
    for name in ("cars_train", "cars_test"):
        (root / name).rename(root / "images")
        (root / name).mkdir()
        (root / "images").rename(root / name / name)
    found = packed_ids(read(root, ACCEPT))
    assert found == {
        split: {f"cars_{split}/{name}": classes for name, classes in ids.items()} for split, ids in EXPECTED.items()
    }


def test_test_labels_that_a_mirror_lacks(root: Path) -> None:
    (root / "cars_test_annos_withlabels.mat").unlink()
    text = read_message(root)
    assert "cars_test_annos_withlabels.mat: is missing here and in devkit; the labels of the test images are in" in text
    (root / "devkit" / "cars_test_annos.mat").rename(root / "cars_test_annos_withlabels.mat")
    assert "cars_test_annos_withlabels.mat: the annotations lack class" in read_message(root)


def test_one_folder_of_images(tmp_path: Path) -> None:
    rows = [(f"car_ims/{number:06d}.jpg", number % 3 + 1, int(number >= 3)) for number in range(6)]
    for name, _, _ in rows:
        picture(tmp_path / name)
    save(tmp_path / "cars_annos.mat", rows, ("relative_im_path", "class", "test"))
    assert packed_ids(read(tmp_path, ACCEPT)) == {
        split: {name: (NAMES[number - 1], MAKES[number - 1]) for name, number, test in rows if test == flag}
        for flag, split in enumerate(("train", "test"))
    }


@pytest.mark.parametrize("inside", [".", "car_data/car_data"])
def test_class_folders(tmp_path: Path, inside: str) -> None:
    for split in ("train", "test"):
        for name in NAMES:
            picture(tmp_path / inside / split / name.replace("/", "-") / f"{split}.jpg")
    dataset = read(tmp_path, ACCEPT)
    assert [level.classes for level in dataset.levels] == [NAMES, MAKES]
    assert packed_ids(dataset)["test"]["test/Ram C-V Cargo Van Minivan 2012/test.jpg"] == (NAMES[2], "Ram")
    picture(tmp_path / inside / "test" / "cover.jpg")
    assert "test/cover.jpg: must lie in a class folder, as test/CLASS/*.jpg" in read_message(tmp_path)


def test_all_faults_at_once(root: Path) -> None:
    (root / "cars_train" / "00002.jpg").unlink()
    save(root / "cars_test_annos_withlabels.mat", [(4, "00001.jpg"), (0, "00002.jpg")], ("class", "fname"))
    text = read_message(root)
    assert "cars_train/00002.jpg: is missing, but annotated" in text
    assert "cars_test_annos_withlabels.mat: 00001.jpg: class 4 must be one of 1-3" in text
    assert "cars_test_annos_withlabels.mat: 00002.jpg: class 0 must be one of 1-3" in text
    assert text.startswith("3 faults:")


def test_damaged_annotations(root: Path) -> None:
    (root / "devkit" / "cars_train_annos.mat").write_bytes(b"no MATLAB file" * 20)
    (root / "devkit" / "cars_meta.mat").unlink()
    text = read_message(root)
    assert "cars_train_annos.mat: cannot be read: Unknown mat file type" in text
    assert "cars_meta.mat: cannot be read: No such file or directory" in text
    savemat(root / "devkit" / "cars_meta.mat", {"names": 1})
    assert "cars_meta.mat: has no variable class_names" in read_message(root)


def test_images_without_annotations(root: Path) -> None:
    picture(root / "cars_train" / "00009.jpg")
    assert read(root, ACCEPT).remarks[0] == (
        "1 image left out, since the annotations do not list it:\n  cars_train/00009.jpg"
    )


def test_class_without_images_in_a_split(root: Path) -> None:
    save(root / "cars_test_annos_withlabels.mat", ROWS[:2], ("class", "fname"))
    assert "class Ram C/V Cargo Van Minivan 2012: no images in test" in read_message(root)


def test_another_folder(tmp_path: Path) -> None:
    assert "no Stanford Cars here: cars_train or cars_annos.mat or train must be in" in read_message(tmp_path)
