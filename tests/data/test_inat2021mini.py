from pathlib import Path

import pytest

from fgssl.data.sources.inat2021mini import SOURCE, INat2021MiniSettings, read
from tests.data.trees import message, packed_ids, picture

SMALL = INat2021MiniSettings(accept_counts=True)
WORM = "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris"
HERB = "00001_Plantae_Tracheophyta_Magnoliopsida_Lamiales_Lamiaceae_Prunella_vulgaris"
BIRD = "00002_Animalia_Chordata_Aves_Passeriformes_Prunellidae_Prunella_modularis"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for species in (WORM, HERB, BIRD):
        picture(tmp_path / "train_mini" / species / "a.jpg")
        picture(tmp_path / "val" / species / "b.jpg")
    return tmp_path


def test_seven_ranks(root: Path) -> None:
    dataset = read(root, SMALL)
    assert tuple(level.name for level in dataset.levels) == SOURCE.levels
    assert [len(level.classes) for level in dataset.levels] == [3, 3, 3, 3, 3, 3, 2]  # two genera named Prunella
    assert packed_ids(dataset)["test"][f"val/{WORM}/b.jpg"] == (
        "Lumbricus terrestris (Lumbricidae)",
        "Lumbricus (Lumbricidae)",
        "Lumbricidae",
        "Haplotaxida",
        "Clitellata",
        "Annelida",
        "Animalia",
    )


def test_all_faults_at_once(root: Path) -> None:
    (root / "val" / WORM / "b.jpg").unlink()
    (root / "train_mini" / HERB).rename(root / "train_mini" / "00001_Plantae")
    text = message(lambda: read(root, SMALL))
    assert f"{root}/val/{WORM}: holds no images" in text
    assert f"{root}/train_mini/00001_Plantae: its name must be a number and seven ranks, joined by _" in text
    assert "the official iNaturalist 2021 mini contains 500,000 train and 100,000 test images" in text


def test_other_counts_and_folders(root: Path) -> None:
    assert "found 3 train and 3 test images (3 x species" in message(lambda: read(root, INat2021MiniSettings()))
    assert "no iNaturalist 2021 mini here" in message(lambda: read(root / "val", SMALL))
    (root / "val").rename(root / "elsewhere")
    assert f"{root}/val: is missing; unpack its archive" in message(lambda: read(root, SMALL))
