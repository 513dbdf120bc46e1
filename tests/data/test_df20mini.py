from pathlib import Path

import pytest
from PIL import Image

from fgssl.data.sources.df20mini import SOURCE, TABLES, DF20MiniSettings, read
from fgssl.errors import DataError

HEADER = "image_path,class_id,scientificName,species,genus,Substrate\n"
ROWS = {
    "train": "1-1.JPG,0,Amanita alba (Fr.) Gray,Amanita alba,Amanita,soil\n1-2.JPG,1,Amanita,NaN,Amanita,\n",
    "test": '1-3.JPG,1,Amanita,,Amanita,\n2-4.JPG,2,"Boletus edulis, Bull.",Boletus edulis,Boletus,wood\n',
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "DF20M").mkdir()
    for rows in ROWS.values():
        for line in rows.splitlines():
            Image.new("RGB", (2, 2)).save(tmp_path / "DF20M" / line.split(",")[0], format="JPEG")
    for split, name in TABLES[2020].items():
        (tmp_path / name).write_text(HEADER + ROWS[split])
    return tmp_path


def small(**options: object) -> DF20MiniSettings:
    return DF20MiniSettings(**{"accept_counts": True, **options})  # type: ignore[arg-type]


def message(root: Path, options: DF20MiniSettings) -> str:
    with pytest.raises(DataError) as caught:
        read(root, options)
    return str(caught.value)


def test_species_and_genera(root: Path) -> None:
    dataset = read(root, small())
    assert dataset.name == "df20mini"
    assert tuple(level.name for level in dataset.levels) == SOURCE.levels
    assert [level.classes for level in dataset.levels] == [
        ("Amanita", "Amanita alba (Fr.) Gray", "Boletus edulis, Bull."),
        ("Amanita", "Boletus"),
    ]
    test = [recipe() for recipe in dataset.splits["test"]]
    assert [(sample.source_id, sample.labels, sample.group) for sample in test] == [
        ("DF20M/1-3.JPG", (0, 0), "1"),
        ("DF20M/2-4.JPG", (2, 1), "2"),
    ]


def test_rows_without_species_are_left_out_by_option(root: Path) -> None:
    dataset = read(root, small(species_column="species"))
    assert dataset.levels[0].classes == ("Amanita alba", "Boletus edulis")
    assert {split: len(recipes) for split, recipes in dataset.splits.items()} == {"train": 1, "test": 1}
    assert dataset.remarks[-1] == "2 images left out, whose species is empty"


def test_the_split_of_2024(root: Path) -> None:
    assert "DanishFungi2024-Mini-train.csv: cannot be read: No such file" in message(root, small(split=2024))
    for split, name in TABLES[2024].items():
        (root / name).write_text(HEADER + "".join(f"DF20/{line}\n" for line in ROWS[split].splitlines()))
    dataset = read(root, DF20MiniSettings(split=2024))
    assert (dataset.name, dataset.remarks) == ("df20mini-2024", ())
    assert dataset.splits["test"][0]().source_id == "DF20M/1-3.JPG"
    assert dataset.arguments != read(root, small()).arguments


def test_all_faults_at_once(root: Path) -> None:
    (root / "DF20M" / "1-1.JPG").unlink()
    table = root / TABLES[2020]["test"]
    table.write_text(HEADER + "1-3.JPG,1,NaN,,Amanita,\n1-3.JPG,1,x,,Amanita,\n2-4.JPG\n")
    text = message(root, small())
    for expected in (
        f"{TABLES[2020]['train']}:2: 1-1.JPG is missing in {root}/DF20M",
        f"{table}:2: 1-3.JPG has no scientificName or no genus",
        f"{table}:3: a second row for 1-3.JPG",
        f"{table}:4: must have the columns",
        "the official DF20-Mini contains 32,753 train and 3,640 test images (182 x species, 6 x genus)",
    ):
        assert expected in text


def test_unexpected_counts_and_another_folder(root: Path) -> None:
    assert "df20mini: found 2 train and 2 test images" in message(root, DF20MiniSettings())
    (root / "empty").mkdir()
    assert "no DF20-Mini here" in message(root / "empty", small())
