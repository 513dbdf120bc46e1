from pathlib import Path

import pytest

from fgssl.data.source import Sample, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official, image_names
from fgssl.data.sources.tables import read_csv, read_words
from fgssl.errors import DataError
from fgssl.store.manifest import Level

OFFICIAL = Official("Pets", images={"train": 2, "test": 1}, classes={"breed": 2})


def dataset(train: int = 2, classes: tuple[str, ...] = ("a", "b")) -> SourceDataset:
    def sample() -> Sample:
        raise AssertionError("no image is read")

    return SourceDataset("pets", "pets", {}, (Level("breed", classes),), {"train": [sample] * train, "test": [sample]})


@pytest.mark.parametrize("accept", [False, True])
def test_official_counts_need_no_remark(accept: bool) -> None:
    assert OFFICIAL.checked(dataset(), accept).remarks == ()


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (dataset(train=1234), "1,234 train and 1 test images (2 x breed)"),
        (dataset(classes=("a", "b", "c")), "2 train and 1 test images (3 x breed)"),
    ],
)
def test_other_counts(found: SourceDataset, counts: str) -> None:
    with pytest.raises(DataError) as caught:
        OFFICIAL.checked(found, accept=False)
    official = "the official Pets contains 2 train and 1 test images (2 x breed)"
    assert f"pets: found {counts}, but {official}; unpack the archive again, or give accept_counts" in str(caught.value)
    assert OFFICIAL.checked(found, accept=True).remarks == (f"packed {counts}; {official}",)


def test_classes_without_images_are_faults_beside_the_counts(tmp_path: Path) -> None:
    train = [LabeledFile(tmp_path / name, name, (name[0],)) for name in ("a1.png", "b1.png")]
    splits = {"train": train, "test": [LabeledFile(tmp_path / "a2.png", "a2.png", ("a",))]}
    with pytest.raises(DataError, match=r"^1 fault:\n  class b: no images in test\nthe official Pets contains"):
        OFFICIAL.dataset("pets", splits, 0, accept=False)
    with pytest.raises(DataError, match=r"found 4 train and 1 test .*\n  class b: no images in test"):
        OFFICIAL.dataset("pets", {**splits, "train": train * 2}, 0, accept=False)


def test_folder_or_its_parent(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "list.txt").touch()
    assert OFFICIAL.folder(tmp_path, "list.txt", ["pets"]) == tmp_path / "pets"
    assert OFFICIAL.folder(tmp_path / "pets", "list.txt", ["pets"]) == tmp_path / "pets"
    assert OFFICIAL.folder(tmp_path, ("x.txt", "list.txt"), ["pets"]) == tmp_path / "pets"
    with pytest.raises(
        DataError,
        match=r"no Pets here: x\.txt or y must be in .* or .*/pets\n.* holds pets: give .*\nthe official Pets",
    ):
        OFFICIAL.folder(tmp_path, ("x.txt", "y"), ["pets"])
    with pytest.raises(DataError, match=r"petz: does not exist: did you mean .*pets"):
        OFFICIAL.folder(tmp_path / "petz", "list.txt")


def test_another_folder_says_what_it_holds(tmp_path: Path) -> None:
    def text(folder: Path) -> str:
        with pytest.raises(DataError) as caught:
            OFFICIAL.folder(folder, "list.txt", ["pets"])
        return str(caught.value)

    for number in range(12):
        (tmp_path / "other" / f"{number:02d}").mkdir(parents=True)
    (tmp_path / "other" / ".hidden").touch()
    listed = ", ".join(f"{number:02d}" for number in range(8))
    assert f"{tmp_path}/other holds {listed}, and 4 more: give the folder that" in text(tmp_path / "other")
    assert f"{tmp_path}/other/00 holds nothing: give" in text(tmp_path / "other" / "00")
    (tmp_path / "other" / "pets.tar.gz").touch()
    assert "and 5 more: unpack pets.tar.gz and all other archives first\nthe official" in text(tmp_path / "other")
    assert "pets.tar.gz: is a file: unpack it, and give the folder" in text(tmp_path / "other" / "pets.tar.gz")
    (tmp_path / "other" / "07" / "list.txt").touch()
    assert f"did you mean {tmp_path}/other/07?\nthe" in text(tmp_path / "other")
    (tmp_path / "other" / "07" / "images").mkdir()
    assert f"images holds nothing: did you mean {tmp_path}/other/07?\nthe" in text(tmp_path / "other" / "07" / "images")


def test_image_names(tmp_path: Path) -> None:
    for name in ("a/1.JPG", "a/b/2.png", "a/._1.JPG", "__MACOSX/1.JPG", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c").symlink_to(tmp_path / "a", target_is_directory=True)
    assert image_names(tmp_path) == {"a/1.JPG", "a/b/2.png", "c/1.JPG", "c/b/2.png"}
    assert image_names(tmp_path / "missing") == set()


def test_image_names_refuse_links_in_a_circle(tmp_path: Path) -> None:
    for name in ("images/a/1.jpg", "elsewhere/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    link, images = tmp_path / "elsewhere" / "back", tmp_path / "images"
    (images / "b").symlink_to(tmp_path / "elsewhere")
    assert image_names(images) == {"a/1.jpg", "b/2.jpg"}
    for target in (tmp_path / "elsewhere", images, tmp_path):
        link.symlink_to(target)
        with pytest.raises(DataError, match=rf"/b/back: is a link to {target}, which it is in: remove the link"):
            image_names(images)
        link.unlink()


def test_words(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("1 red fox \n\n2\n3 wolf\r\n1 dog\n")
    faults: list[str] = []
    rows = read_words(file, ("id", "name"), faults)
    assert [row.cells for row in rows] == [("1", "red fox"), ("3", "wolf")]
    assert [row.place for row in rows] == [f"{file}:1", f"{file}:4"]
    assert faults == [
        f"{file}:3: must have the columns id, name",
        f"{file}:5: a second row for 1; the first is in line 1",
    ]


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text('\ufeffwidth;name;class\n9;x.png;"a;b"\n9\n\n9;y.png; c\n')
    faults: list[str] = []
    rows = read_csv(file, ("name", "class"), faults, delimiter=";")
    assert [row.cells for row in rows] == [("x.png", "a;b"), ("y.png", "c")]
    assert rows[1].place == f"{file}:5"
    assert faults == [f"{file}:3: must have the columns name, class"]


def test_rows_that_excel_leaves(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text('sep=;\r\nname;class;\r\nx.png;a\r\n;\r\n" ";;;\r\ny.png;b;\r\nz.png;c;;\r\n')
    faults: list[str] = []
    rows = read_csv(file, ("name", "class"), faults, delimiter=";")
    assert [(row.cells, row.place) for row in rows] == [(("x.png", "a"), f"{file}:3"), (("y.png", "b"), f"{file}:6")]
    assert faults == [
        f"{file}:7: has 4 cells, but the header has 3: put a text with ';' in it into double quotes, or remove the "
        "empty cells at the end",
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("name,species\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    faults: list[str] = []
    assert read_csv(tmp_path / "table.csv", ("name", "class", "x"), faults) == []
    assert read_words(tmp_path / "missing.txt", ("id",), faults) == []
    assert read_words(tmp_path / "binary", ("id",), faults) == []
    assert faults[0] == f"{tmp_path}/table.csv: cannot be read: the header lacks class, x; it has name, species"
    assert faults[1] == f"{tmp_path}/missing.txt: cannot be read: No such file or directory"
    assert faults[2].startswith(f"{tmp_path}/binary:1: is not UTF-8: save it so")
