from pathlib import Path

import pytest

from fgssl.data.sources.isic2017 import SOURCE, ISIC2017Settings, read
from tests.data.trees import edit, message, packed_ids, picture

ACCEPT = ISIC2017Settings(accept_counts=True)
ROWS = (("ISIC_0000000", "0.0,0.0"), ("ISIC_0000001", "1.0,0.0"), ("ISIC_0000002", "0.0,1.0"))
DIAGNOSES = ("nevus", "melanoma", "seborrheic_keratosis")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "ISIC2017"
    for part in ("Training", "Validation", "Test_v2"):
        folder = base / f"ISIC-2017_{part}_Data"
        for name, _ in ROWS:
            picture(folder / f"{name}.jpg")
            picture(folder / f"{name}_superpixels.png")
        (folder / f"ISIC-2017_{part}_Data_metadata.csv").write_text("image_id,age_approximate,sex\n")
        table = "".join(f"{name},{values}\n" for name, values in ROWS)
        (base / f"ISIC-2017_{part}_Part3_GroundTruth.csv").write_text(
            f"image_id,melanoma,seborrheic_keratosis\n{table}"
        )
    return base


def read_message(root: Path, options: ISIC2017Settings = ACCEPT) -> str:
    return message(lambda: read(root, options))


def ids(part: str) -> dict[str, tuple[str, ...]]:
    return {
        f"ISIC-2017_{part}_Data/{name}.jpg": (diagnosis,) for (name, _), diagnosis in zip(ROWS, DIAGNOSES, strict=True)
    }


def test_official_split(root: Path) -> None:
    dataset = read(root, ACCEPT)
    assert packed_ids(dataset) == {"train": ids("Training"), "test": ids("Test_v2")}
    assert packed_ids(read(root.parent, ACCEPT)) == packed_ids(dataset)
    assert [(level.name, level.classes) for level in dataset.levels] == [
        ("diagnosis", ("melanoma", "nevus", "seborrheic_keratosis"))
    ]
    assert SOURCE.levels == ("diagnosis",)
    assert dataset.remarks == (
        "packed 3 train and 3 test images (3 x diagnosis); the official ISIC 2017 contains 2,000 train and 600 test "
        "images (3 x diagnosis)",
    )


def test_validation_set_as_test_split(root: Path) -> None:
    dataset = read(root, ISIC2017Settings(accept_counts=True, split="validation"))
    assert packed_ids(dataset) == {"train": ids("Training"), "test": ids("Validation")}
    assert "contains 2,000 train and 150 test images" in dataset.remarks[0]


@pytest.mark.parametrize("place", ["ISIC-2017_Training_Part3_GroundTruth", "ISIC-2017_Training_Data"])
def test_other_places_of_the_ground_truth(root: Path, place: str) -> None:
    name = "ISIC-2017_Training_Part3_GroundTruth.csv"
    (root / place).mkdir(exist_ok=True)
    (root / name).rename(root / place / name)
    assert packed_ids(read(root, ACCEPT))["train"] == ids("Training")


def test_all_faults_at_once(root: Path) -> None:
    (root / "ISIC-2017_Training_Data" / "ISIC_0000001.jpg").unlink()
    edit(root / "ISIC-2017_Training_Part3_GroundTruth.csv", "0.0,1.0", "1.0,1.0")
    (root / "ISIC-2017_Test_v2_Part3_GroundTruth.csv").unlink()
    text = read_message(root)
    for expected in (
        "Training_Part3_GroundTruth.csv:3: ISIC_0000001.jpg is missing in",
        "Training_Part3_GroundTruth.csv:4: melanoma 1.0 and seborrheic_keratosis 1.0 of ISIC_0000002 must be 0 or 1",
        "ISIC-2017_Test_v2_Part3_GroundTruth.csv: cannot be read: No such file or directory",
        "the official ISIC 2017 contains 2,000 train and 600 test images",
    ):
        assert expected in text


def test_other_counts_are_refused(root: Path) -> None:
    assert "found 3 train and 3 test images (3 x diagnosis), but the official" in read_message(root, ISIC2017Settings())


def test_images_that_no_row_lists(root: Path) -> None:
    picture(root / "ISIC-2017_Test_v2_Data" / "ISIC_0000009.jpg")
    assert read(root, ACCEPT).remarks[0].endswith("list it:\n  ISIC-2017_Test_v2_Data/ISIC_0000009.jpg")


def test_diagnosis_without_images_in_a_split(root: Path) -> None:
    edit(root / "ISIC-2017_Test_v2_Part3_GroundTruth.csv", "1.0,0.0", "0.0,0.0")
    assert "class melanoma: no images in test" in read_message(root)


def test_another_folder(tmp_path: Path) -> None:
    assert "no ISIC 2017 here: ISIC-2017_Training_Data or " in read_message(tmp_path)
