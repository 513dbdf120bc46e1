from pathlib import Path

import pytest
from PIL import Image

from fgssl.data.sources.imagenet100 import CLASSES, ImageNet100Settings, read
from fgssl.errors import DataError

SMALL = ImageNet100Settings(accept_counts=True)
OTHER = "n00000001"  # a class that is not in the list


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path, format="JPEG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (*CLASSES, OTHER):
        save(tmp_path / "images" / "train" / name / f"{name}_1.JPEG")
        save(tmp_path / "images" / "val" / name / "ILSVRC2012_val_00000001.JPEG")
    return tmp_path / "images"


def flatten(root: Path) -> str:
    """Move the validation images out of their folders, and return the table of their classes."""
    lines = ["ImageId,PredictionString"]
    for number, folder in enumerate(sorted((root / "val").iterdir())):
        name = f"ILSVRC2012_val_{number:08d}"
        (folder / "ILSVRC2012_val_00000001.JPEG").rename(root / "val" / f"{name}.JPEG")
        folder.rmdir()
        lines.append(f"{name},{folder.name} 1 2 3 4 {folder.name} 5 6 7 8")
    return "\n".join(lines)


def message(root: Path, options: ImageNet100Settings = SMALL) -> str:
    with pytest.raises(DataError) as caught:
        read(root, options)
    return str(caught.value)


def test_the_list_of_tian_et_al() -> None:
    assert (len(CLASSES), len(set(CLASSES)), CLASSES[0], CLASSES[-1]) == (100, 100, "n02869837", "n02090622")


def test_classes_and_their_hash(root: Path) -> None:
    dataset = read(root, SMALL)
    assert dataset.levels[0].classes == tuple(sorted(CLASSES))
    assert {split: len(recipes) for split, recipes in dataset.splits.items()} == {"train": 100, "test": 100}
    sample = dataset.splits["test"][3]()
    assert sample.source_id == f"val/{sorted(CLASSES)[3]}/ILSVRC2012_val_00000001.JPEG"
    assert sample.labels == (3,)
    assert dataset.arguments["classes_sha256"] == "d61d354b64beb3ce2c2c9cf04a874298362dc9fcd589e15ee34c5e4592145746"
    assert "but the official" not in str(dataset.remarks)
    assert dataset.remarks == (
        "packed 100 train and 100 test images (100 x class); the official ImageNet-100 contains 126,689 train and "
        "5,000 test images (100 x class)",
    )


def test_another_list(root: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text(f"{OTHER}\n{CLASSES[0]}\n")
    dataset = read(root, ImageNet100Settings(classes=tmp_path / "classes.txt"))
    assert dataset.levels[0].classes == (OTHER, CLASSES[0])
    assert dataset.arguments != read(root, SMALL).arguments
    assert dataset.remarks == ()
    (tmp_path / "classes.txt").write_text("tench n01440764 n01440764")
    text = message(root, ImageNet100Settings(classes=tmp_path / "classes.txt"))
    assert "'tench' is not of the form n02869837" in text
    assert "n01440764 is there twice" in text


def test_flat_validation_images(root: Path) -> None:
    table = flatten(root)
    assert "LOC_val_solution.csv is missing: put Kaggle's file there" in message(root)
    (root.parent / "LOC_val_solution.csv").write_text(table)
    recipes = read(root, SMALL).splits["test"]
    assert len(recipes) == 100
    assert recipes[0]().source_id.startswith("val/n01558993/ILSVRC2012_val_0000")
    (root.parent / "LOC_val_solution.csv").write_text(table.replace("ILSVRC2012_val_00000007", "x"))
    assert "ILSVRC2012_val_00000007.JPEG: has no row in" in message(root)


def test_kaggles_folders(root: Path, tmp_path: Path) -> None:
    (tmp_path / "kaggle" / "ILSVRC" / "Data").mkdir(parents=True)
    (tmp_path / "kaggle" / "LOC_val_solution.csv").write_text(flatten(root))
    root.rename(tmp_path / "kaggle" / "ILSVRC" / "Data" / "CLS-LOC")
    assert len(read(tmp_path / "kaggle", SMALL).splits["test"]) == 100


def test_faults(root: Path, tmp_path: Path) -> None:
    (root / "train" / CLASSES[0] / f"{CLASSES[0]}_1.JPEG").unlink()
    (root / "val" / CLASSES[1]).rename(root / "elsewhere")
    text = message(root)
    assert f"train/{CLASSES[0]}: is missing, or holds no images" in text
    assert f"val/{CLASSES[1]}: is missing, or holds no images" in text
    assert text.splitlines()[-1].startswith("the official ImageNet-100 contains 126,689 train")
    (tmp_path / "empty").mkdir()
    assert "no ImageNet-100 here" in message(tmp_path / "empty")


def test_unexpected_counts(root: Path) -> None:
    assert "found 100 train and 100 test images" in message(root, ImageNet100Settings())
