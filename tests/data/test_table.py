from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.sources.table import CsvSettings, read
from fgssl.errors import DataError

ROWS = """\
path,species,genus,split,group,light,note
a/1.png,alba,amanita,train,o1,0.5,"one, two"
a/2.png,alba,amanita,test,o2,1,
b/3.png,edulis,boletus,train,o3,2,x
b/4.png,edulis,boletus,test,,3,x
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for number in range(1, 5):
        path = tmp_path / "images" / f"{'aabb'[number - 1]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2, 3), number, dtype=np.uint8)).save(path)
    return write(tmp_path / "images" / "fungi.csv", ROWS)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def ids(table: Path, **options: Any) -> Mapping[str, list[str]]:
    splits = read(table, CsvSettings(**{"labels": ("species",), **options})).splits
    return {split: [recipe().source_id for recipe in recipes] for split, recipes in splits.items()}


def message(table: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(table, CsvSettings(**{"labels": ("species",), **options}))
    return str(caught.value)


GIVEN = {"train": ["a/1.png", "b/3.png"], "test": ["a/2.png", "b/4.png"]}


def test_labels_groups_and_attributes(table: Path, tmp_path: Path) -> None:
    options = CsvSettings(labels=("species", "genus"), attributes=("light",))
    manifest = pack(read(table, options), tmp_path / "shards")
    assert (manifest.dataset, manifest.attributes) == ("fungi", ("light",))
    assert [(level.name, level.classes) for level in manifest.levels] == [
        ("species", ("alba", "edulis")),
        ("genus", ("amanita", "boletus")),
    ]
    test = ShardedSplit(tmp_path / "shards", "test")
    rows = zip(map(str, test.source_ids), test.labels.tolist(), test.attributes["light"].tolist(), strict=True)
    assert sorted(rows) == [("a/2.png", [0, 0], 1.0), ("b/4.png", [1, 1], 3.0)]
    assert ids(table) == GIVEN


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_separators_and_byte_order_mark(table: Path, separator: str) -> None:
    write(table, ROWS.replace('"one, two"', "x").replace(",", separator), "utf-8-sig")
    assert ids(table) == GIVEN
    assert ids(table, separator=separator) == GIVEN


def test_absolute_paths_and_another_root(table: Path, tmp_path: Path) -> None:
    absolute = ROWS.replace("\na", f"\n{table.parent}/a").replace("\nb", f"\n{table.parent}/b")
    assert ids(write(table, absolute)) == GIVEN
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert ids(write(elsewhere / "t.csv", absolute)) == GIVEN  # relative to the folder that all have in common
    assert ids(write(elsewhere / "t.csv", ROWS), root=table.parent) == GIVEN
    assert f"\n  {elsewhere}/t.csv: no image is there: give root=FOLDER" in message(elsewhere / "t.csv")


def test_two_tables(table: Path) -> None:
    lines = ROWS.splitlines(keepends=True)
    first = write(table.parent / "train.csv", lines[0] + lines[1] + lines[3])
    second = write(table.parent / "test.csv", lines[0] + lines[2] + lines[4])
    assert ids(first, test_table=second) == GIVEN
    write(second, "".join(lines[:3]) + lines[4])
    assert f"{second}:2: a/1.png: is in {first}:2 already" in message(first, test_table=second)


def test_texts_of_splits(table: Path) -> None:
    write(table, ROWS.replace("train", "1").replace("test", "0"))
    assert f"{table}: column split: '0', '1' is not a usual name of a split: choose with train=TEXT" in message(table)
    assert ids(table, train=("1",), test=("0",)) == GIVEN
    write(table, ROWS.replace("train", "Training").replace("test", "VAL"))
    assert ids(table) == GIVEN
    write(table, ROWS + "b/5.png,edulis,boletus,val,,3,x\n")
    Image.new("RGB", (2, 2)).save(table.parent / "b" / "5.png")
    assert "which one is the test split? Give test=test, or test=val" in message(table)
    dataset = read(table, CsvSettings(labels=("species",), test=("val", "test")))
    assert "the test split is val and test" in dataset.remarks
    write(table, ROWS + "b/5.png,edulis,boletus,unused,,3,x\n")
    assert "'unused' is not a usual name of a split" in message(table)
    assert "1 rows left out, whose split is 'unused'" in "".join(
        read(table, CsvSettings(labels=("species",), train=("train",), test=("test",))).remarks
    )


def test_the_split_that_fgssl_makes_keeps_groups(table: Path) -> None:
    rows = [f"{number}.png,x,{number // 4}" for number in range(40)]
    for number in range(40):
        Image.fromarray(np.full((1, 1), number, dtype=np.uint8)).save(table.parent / f"{number}.png")
    write(table, "\n".join(["file,label,patient", *rows]))
    dataset = read(table, CsvSettings(path="file", group="patient"))
    groups = {name: {recipe().group for recipe in recipes} for name, recipes in dataset.splits.items()}
    assert {name: len(names) for name, names in groups.items()} == {"train": 8, "test": 2}
    assert groups["train"].isdisjoint(groups["test"])


def test_unlabeled(table: Path) -> None:
    write(table, "path\na/1.png\nb/3.png\n")
    dataset = read(table, CsvSettings(labels=()))
    assert (dataset.levels, list(dataset.splits)) == ((), ["train"])
    assert dataset.remarks[0].startswith("2 images without a usable row:")


@pytest.mark.parametrize("empty", ["", "NaN", "NA"])
def test_empty_labels(table: Path, empty: str) -> None:
    write(table, ROWS + f"b/5.png,{empty},boletus,train,,3,x\n")
    missing = tuple(filter(None, [empty]))
    assert f"{table}:6: b/5.png: no species; empty_labels=drop leaves" in message(table, missing=missing)
    assert ids(table, empty_labels="drop", missing=missing) == GIVEN
    dataset = read(table, CsvSettings(labels=("species",), empty_labels="drop", missing=missing))
    assert f"{table}: 1 rows left out, whose label is empty" in dataset.remarks


@pytest.mark.parametrize("text", ["None", "NA", "<NA>", "nan", "null", "N/A"])
def test_names_that_others_write_for_no_value_are_names(table: Path, text: str) -> None:
    write(table, ROWS.replace("edulis", text).replace("o1", text).replace("o2", text))
    dataset = read(table, CsvSettings(labels=("species",)))
    assert dataset.levels[0].classes == tuple(sorted(["alba", text]))
    assert {recipe().group for recipe in dataset.splits["train"]} == {text, "o3"}
    for column in ("species", "group"):
        assert f"{table}: 2 rows have {column} {text!r}, which was read as a name: if it" in "\n".join(dataset.remarks)
    named = read(table, CsvSettings(labels=(), missing=(text,)))
    assert {recipe().group for recipe in named.splits["train"]} == {"", "o3"}
    assert "which was read as a name" not in "".join(named.remarks)


def test_paths_of_windows(table: Path) -> None:
    (table.parent / "a" / "odd\\name.png").write_bytes((table.parent / "a" / "1.png").read_bytes())
    write(table, ROWS.replace("a/", "a\\").replace("a\\1.png", "a/odd\\name.png"))
    dataset = read(table, CsvSettings(labels=("species",)))
    assert [recipe().source_id for recipe in dataset.splits["train"]] == ["a/odd\\name.png", "b/3.png"]
    assert [recipe().source_id for recipe in dataset.splits["test"]] == ["a/2.png", "b/4.png"]
    assert f"{table}: 1 paths are written with \\, which was read as /" in dataset.remarks
    text = message(write(table, ROWS.replace("a/", "C:\\photos\\a\\")))
    assert f"{table}:2: {table.parent}/C:/photos/a/1.png: is missing; cut the beginning" in text


def test_a_table_that_excel_saved(table: Path) -> None:
    rows = ROWS.replace("path,species,genus,split", '"Path",SPECIES," Genus ","Split"').replace('"one, two"', "x")
    write(table, f"sep=;\n{rows.replace(',', ';')};;;;;;;;\n".replace("\n", "\r\n"), "utf-8-sig")
    assert ids(table) == GIVEN
    assert f"{table}:2: labels: no column 'family'" in message(table, labels=("family",))
    write(table, rows.replace("SPECIES", "SPECIES,Species").replace("alba", "alba,").replace("edulis", "edulis,"))
    assert f"{table}:1: labels: several columns 'species': rename one" in message(table)
    assert ids(table, labels=("SPECIES",)) == GIVEN


def test_separators_within_quotes_do_not_count(table: Path) -> None:
    rows = ROWS.replace('"one, two"', "x").replace(",", ";").replace("note", '"a,b,c,d,e,f,g,h,i"')
    assert ids(write(table, rows)) == GIVEN
    unquoted = message(write(table, ROWS.replace("2.png,alba", "2.png,alba,the white")))
    assert f"{table}:3: has 8 cells, but the header has 7: put a text with ',' in it into double quotes" in unquoted


def test_quotes_that_do_not_match(table: Path) -> None:
    assert ids(write(table, ROWS.replace('"one, two"', '"one\n""two"", three"'))) == GIVEN
    for note in ('"one', '"one" two'):
        text = message(write(table, ROWS.replace('"one, two"', note)))
        assert f"{table}:2: the row that begins here cannot be read (" in text
        assert "close the double quote that opens a cell" in text
    late = write(table, ROWS.replace("x\nb/4", '"a\nb"\nb/4').removesuffix("x\n") + '"x\n')
    assert f"{table}:6: the row that begins here cannot be read (unexpected end of data)" in message(late)
    for header in ('path,species,"note', 'path,"species"s,note'):
        text = message(write(table, ROWS.replace("path,species", header)))
        assert text.startswith(f"{table}:1: the row that begins here cannot be read (")


def test_columns_that_are_not_used_are_named(table: Path) -> None:
    (remark,) = [remark for remark in read(table, CsvSettings(labels=("species",))).remarks if "not used" in remark]
    assert remark == f"{table}: columns that are not used, since no key names them: genus, light, note"


def test_all_faults_at_once(table: Path) -> None:
    (table.parent / "a" / "1.png").rename(table.parent / "a" / "1.PNG")
    more = "a/2.png,x,y,test,,1,x\n./b/3.png,edulis,y,test,,x,x\nshort\n,z,y,test,,1,x\n"
    text = message(write(table, ROWS + more), attributes=("light",))
    for expected in (
        f"{table}:2: {table.parent}/a/1.png: is missing; there is 1.PNG",
        f"{table}:6: a second row for a/2.png; the first is in line 3",
        f"{table}:7: ./b/3.png: is in {table}:4 already",
        f"{table}:8: must have the columns",
        f"{table}:9: no path",
    ):
        assert expected in text
    assert text.startswith("5 faults in the table:")
    (table.parent / "a" / "1.PNG").rename(table.parent / "a" / "1.png")
    not_number = message(write(table, ROWS.replace("0.5", "x")), attributes=("light",))
    assert f"{table}:2: light: an attribute must be a number such as 0.5, not 'x'" in not_number


def test_columns_that_are_not_there(table: Path) -> None:
    text = message(table, path="file", labels=("family",), group="patient")
    for key, name in (("path", "file"), ("labels", "family"), ("group", "patient")):
        assert f"{table}:1: {key}: no column '{name}'" in text
    assert "its columns are path, species, genus, split, group, light, note: choose some with KEY=COLUMN" in text


def test_tables_that_cannot_be_read(table: Path) -> None:
    assert "cannot be read: No such file or directory; did you mean" in message(table.with_name("fungy.csv"))
    assert message(table.parent).endswith("cannot be read: Is a directory; give the file of the table")
    table.write_bytes("path,species\né,x".encode("latin-1"))
    assert f"{table}:2: is not UTF-8: save it so (CSV UTF-8 in Excel)" in message(table)
    write(table, ROWS, "utf-16")
    assert f"{table}:1: is not UTF-8" in message(table)
    assert "has no rows" in message(write(table, "path,species\n"))


def test_remarks_on_groups_and_levels(table: Path) -> None:
    write(table, ROWS.replace("o2", "o1").replace("edulis", "alba"))
    remarks = read(table, CsvSettings(labels=("species", "genus"))).remarks
    assert "1 group with images in both splits:\n  o1" in remarks
    assert "1 class of species with several of genus:\n  alba (amanita, boletus)" in remarks
