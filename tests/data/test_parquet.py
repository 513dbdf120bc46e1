import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import UnreadableImageError
from fgssl.data.sources import parquet
from fgssl.data.sources.parquet import ParquetSettings, read
from tests.data.trees import message, packed_ids


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def write(path: Path, numbers: range, names: list[str] | None = None, **columns: list[Any]) -> None:
    """Write one row for each number, in row groups of two, with its remainder of 2 as the label."""
    table = pyarrow.table(
        {
            "image": [{"bytes": encoded(number), "path": f"{number}.png"} for number in numbers],
            "label": [number % 2 for number in numbers],
            **columns,
        }
    )
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "mirror/data/train-00000-of-00002.parquet", range(0, 5), ["crow", "owl"])
    write(tmp_path / "mirror/data/train-00001-of-00002.parquet", range(5, 8), ["crow", "owl"])
    write(tmp_path / "mirror/data/test-00000-of-00001.parquet", range(8, 10), ["crow", "owl"])
    return tmp_path / "mirror"


def test_images_and_the_names_of_their_classes(root: Path, tmp_path: Path) -> None:
    dataset = read(root, ParquetSettings(revision="abc"))
    assert (dataset.name, dataset.arguments) == ("mirror", {"seed": 0, "revision": "abc"})
    assert packed_ids(dataset)["test"] == {
        "data/test-00000-of-00001.parquet/0": ("crow",),
        "data/test-00000-of-00001.parquet/1": ("owl",),
    }
    pack(dataset, tmp_path / "shards")
    train = ShardedSplit(tmp_path / "shards", "train")
    for row, source_id in enumerate(train.source_ids):
        part, number = source_id.rsplit("/", 1)
        expected = int(number) + (5 if "00001-of" in part else 0)
        assert (train.pixels(row) == expected).all()


def test_several_columns_and_a_group(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        kinds: dict[str, list[Any]] = {"fine": ["a", "b", "c"], "coarse": ["x", "x", "y"], "patient": [1, 1, 2]}
        write(tmp_path / split / "0000.parquet", range(3), None, **kinds)
    dataset = read(tmp_path, ParquetSettings(labels=("fine", "coarse"), group="patient"))
    assert [(level.name, level.classes) for level in dataset.levels] == [
        ("fine", ("a", "b", "c")),
        ("coarse", ("x", "y")),
    ]
    assert [recipe().group for recipe in dataset.splits["train"]] == ["1", "1", "2"]
    assert dataset.remarks == ("the test split is validation",)
    assert read(tmp_path, ParquetSettings(labels=("label",))).levels[0].classes == ("0", "1")


def test_faults(root: Path, tmp_path: Path) -> None:
    (root / "data/train-00000-of-00002.parquet").write_bytes(b"not parquet")
    write(root / "data/train-00001-of-00002.parquet", range(2), ["crow", "owl"], label=[-1, 1])
    text = message(lambda: read(root, ParquetSettings()))
    assert "train-00000-of-00002.parquet: cannot be read (" in text
    assert "): download it again" in text
    assert "train-00001-of-00002.parquet: row 0: no label: name other columns with labels=[...]" in text
    text = message(lambda: read(root, ParquetSettings(labels=("species",), image="img")))
    assert "has no column img, species; its columns are image, label: give image= or labels=" in text
    (tmp_path / "empty").mkdir()
    assert "no parquet files in it" in message(lambda: read(tmp_path / "empty", ParquetSettings()))


def test_cells_without_an_image(root: Path) -> None:
    write(root / "data/test-00000-of-00001.parquet", range(2), None, image=[None, {"bytes": None, "path": "x.png"}])
    for recipe in read(root, ParquetSettings(labels=())).splits["test"]:
        with pytest.raises(UnreadableImageError, match="the cell holds no bytes of an image"):
            recipe()


def test_numbers_that_are_missing_are_no_labels(root: Path) -> None:
    write(root / "data/train-00001-of-00002.parquet", range(2), None, label=[float("nan"), 1.0])
    text = message(lambda: read(root, ParquetSettings()))
    assert "1 fault in the parquet files:\n" in text
    assert "row 0: no label" in text


def test_row_groups_are_kept_up_to_so_many_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_groups: list[int] = []
    read_group = pyarrow.parquet.ParquetFile.read_row_group

    def counting(file: Any, number: int, **options: Any) -> Any:
        read_groups.append(number)
        return read_group(file, number, **options)

    recipes = read(root, ParquetSettings()).splits["train"][:5]  # in the row groups 0, 0, 1, 1, 2
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", counting)
    monkeypatch.setattr(parquet, "_row_groups", parquet._RowGroups())
    for _ in range(2):
        for recipe in recipes:
            recipe()
    assert read_groups == [0, 1, 2]
    monkeypatch.setattr(parquet, "CACHE_BYTES", 1)
    for recipe in (recipes[4], recipes[4], recipes[0], recipes[1]):  # only the last row group stays
        recipe()
    assert read_groups == [0, 1, 2, 0]


def test_without_pyarrow(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install 'fgssl[parquet]'" in message(lambda: read(root, ParquetSettings()))


def test_configurations_of_a_mirror_are_not_joined(root: Path) -> None:
    write(root / "mini/train-00000-of-00001.parquet", range(0, 2), ["crow", "owl"])
    text = message(lambda: read(root, ParquetSettings()))
    assert f"split train has files in 2 folders, which may hold the same images: {root}/data, {root}/mini: give" in text
