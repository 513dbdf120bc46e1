import collections
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.sources.gtsrb import GROUPS, PAPER, SIGNS, SOURCE, GTSRBSettings, read
from tests.data.trees import edit, message, packed_ids, picture

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"


def row(name: str, sign: int | str) -> str:
    return f"{name};99;99;5;6;90;90;{sign}\n"  # sizes and boxes of the original photograph


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with two tracks of two frames and one test image per class."""
    generator = np.random.default_rng(0)

    def save(path: Path) -> None:
        Image.fromarray(generator.integers(0, 256, (5, 4, 3), dtype=np.uint8)).save(path)

    base = tmp_path / "GTSRB"
    test = base / "Final_Test" / "Images"
    test.mkdir(parents=True)
    answers = HEADER
    for sign in range(43):
        folder = base / "Final_Training" / "Images" / f"{sign:05d}"
        folder.mkdir(parents=True)
        frames = [f"{track:05d}_{frame:05d}.ppm" for track in range(2) for frame in range(2)]
        for name in frames:
            save(folder / name)
        (folder / f"GT-{sign:05d}.csv").write_text(HEADER + "".join(row(name, sign) for name in frames))
        save(test / f"{sign:05d}.ppm")
        answers += row(f"{sign:05d}.ppm", sign)
    (base / "GT-final_test.csv").write_text(answers)
    return base


def read_message(root: Path, options: GTSRBSettings | None = None) -> str:
    return message(lambda: read(root, options or GTSRBSettings()))


def test_labels_levels_and_bytes(root: Path, tmp_path: Path) -> None:
    pack(read(root, GTSRBSettings()), tmp_path / "shards")
    train, test = (ShardedSplit(tmp_path / "shards", split) for split in ("train", "test"))
    assert (len(train), len(test), train.manifest.dataset) == (172, 43, "gtsrb")
    assert [(level.name, len(level.classes)) for level in train.levels] == [("sign", 43), ("group", 6)]
    assert tuple(level.name for level in train.levels) == SOURCE.levels
    assert train.levels[0].classes[14] == "14 Stop"
    for split in (train, test):
        for number, source_id in enumerate(split.source_ids):
            path = root / str(source_id)
            sign = int(path.stem) if split is test else int(path.parent.name)
            assert split.labels[number, 0] == sign
            assert sign in GROUPS[split.levels[1].classes[split.labels[number, 1]]]
            stored = Image.open(io.BytesIO(split.read(number)))
            assert stored.format == "PNG"
            np.testing.assert_array_equal(np.asarray(stored), np.asarray(Image.open(path)))


def test_frames_of_a_track_share_a_group(root: Path, tmp_path: Path) -> None:
    pack(read(root, GTSRBSettings()), tmp_path / "shards")
    train, test = (ShardedSplit(tmp_path / "shards", split) for split in ("train", "test"))
    tracks: dict[tuple[int, str], set[int]] = {}
    for number, source_id in enumerate(train.source_ids):
        track = (int(train.labels[number, 0]), Path(str(source_id)).name.split("_")[0])
        tracks.setdefault(track, set()).add(int(train.groups[number]))
    assert {len(groups) for groups in tracks.values()} == {1}
    assert len(set.union(*tracks.values())) == 86 == len(tracks)
    assert len(set(test.groups)) == 43
    assert not set(test.groups) & set(train.groups)


def test_groups_are_a_partition_of_the_signs() -> None:
    assert sorted(sign for signs in GROUPS.values() for sign in signs) == list(range(43)) == list(range(len(SIGNS)))
    assert {name: len(signs) for name, signs in GROUPS.items()} == {
        "speed limits": 8,
        "other prohibitory": 4,
        "derestriction": 4,
        "mandatory": 8,
        "danger": 15,
        "unique": 4,
    }


def test_folder_or_its_parent(root: Path, tmp_path: Path) -> None:
    versions = [
        pack(read(at, GTSRBSettings()), tmp_path / name).version for at, name in ((root, "1"), (root.parent, "2"))
    ]
    assert versions[0] == versions[1]


@pytest.mark.parametrize("place", ["..", "Final_Test/Images"])
def test_answers_where_the_archive_leaves_them(root: Path, place: str) -> None:
    (root / "GT-final_test.csv").rename(root / place / "GT-final_test.csv")
    assert len(read(root, GTSRBSettings()).splits["test"]) == 43


def test_all_faults_at_once(root: Path) -> None:
    images = root / "Final_Training" / "Images"
    (images / "00001" / "00000_00001.ppm").unlink()
    edit(images / "00002" / "GT-00002.csv", row("00001_00000.ppm", 2), "")
    edit(images / "00003" / "GT-00003.csv", row("00000_00000.ppm", 3), row("00000_00000.ppm", 4))
    edit(images / "00005" / "GT-00005.csv", row("00000_00000.ppm", 5), row("00000_00000.ppm", 5) * 2)
    (images / "00006" / "00000_00000.ppm").rename(images / "00006" / "x.ppm")
    edit(images / "00006" / "GT-00006.csv", "00000_00000.ppm", "x.ppm")
    (images / "00007" / "GT-00007.csv").unlink()
    edit(root / "GT-final_test.csv", row("00008.ppm", 8), row("00008.ppm", 43))
    edit(root / "GT-final_test.csv", row("00009.ppm", 9), "00009.ppm\n")
    text = read_message(root)
    for expected in (
        "GT-00001.csv:3: 00000_00001.ppm is missing in",
        "00002/00001_00000.ppm: has no row in",
        "00003/00000_00000.ppm: stands in the folder of class 3, but its row has 04 Speed limit (70km/h)",
        "GT-00005.csv:3: a second row for 00000_00000.ppm; the first is in line 2",
        "00006/x.ppm: its name must give track and frame",
        "GT-00007.csv: cannot be read: No such file or directory",
        "GT-final_test.csv:10: class '43' of 00008.ppm must be one of 0-42",
        "GT-final_test.csv:11: must have the columns Filename, ClassId",
        "class 07 Speed limit (100km/h): no images in train",
        "class 08 Speed limit (120km/h): no images in test",
    ):
        assert expected in text
    assert text.startswith("12 faults:")
    assert "\nthe official GTSRB contains 39,209 train and 12,630 test images (43 x sign, 6 x group): unpack" in text


def test_many_faults_are_counted(root: Path) -> None:
    for sign in range(30):
        (root / "Final_Training" / "Images" / f"{sign:05d}" / "00000_00000.ppm").unlink()
    assert read_message(root).splitlines()[-2].strip() == "... and 10 more"


def test_missing_test_annotations(root: Path) -> None:
    (root / "GT-final_test.csv").unlink()
    assert "GTSRB/GT-final_test.csv: cannot be read: No such file" in read_message(root)


def test_another_folder(tmp_path: Path) -> None:
    assert "no GTSRB here" in read_message(tmp_path)
    assert "give the folder that the official archives were unpacked into" in read_message(tmp_path)


def test_torchvision_layout(root: Path) -> None:
    expected = packed_ids(read(root, GTSRBSettings()))
    (root / "Final_Training" / "Images").rename(root / "Training")
    (root / "Final_Training").rmdir()
    dataset = read(root, GTSRBSettings())
    assert packed_ids(dataset) == {
        split: {name.replace("Final_Training/Images", "Training"): classes for name, classes in ids.items()}
        for split, ids in expected.items()
    }
    assert "train with views.horizontal_flip=false, as sweeps/presets/gtsrb.yaml does" in dataset.remarks[0]
    assert "Training holds the training images of the competition of 2011 (26,640)" in dataset.remarks[1]
    assert "packed 172 train and 43 test images (43 x sign, 6 x group); the official GTSRB" in dataset.remarks[2]


def test_png_files_for_ppm_files(root: Path) -> None:
    expected = packed_ids(read(root, GTSRBSettings()))
    for path in list(root.rglob("*.ppm")):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    assert packed_ids(read(root, GTSRBSettings())) == {
        split: {name.replace(".ppm", ".png"): classes for name, classes in ids.items()}
        for split, ids in expected.items()
    }


def test_two_files_of_one_frame(root: Path) -> None:
    path = root / "Final_Training" / "Images" / "00003" / "00000_00001.ppm"
    Image.open(path).save(path.with_suffix(".png"))
    assert f"{path}: is the same frame as 00000_00001.png: keep one of the two files" in read_message(root)


def kaggle(folder: Path) -> None:
    """Draw two tracks of two frames and one test image per class, in the layout of the copy on Kaggle."""
    header = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n"
    paths = {
        "Train": [
            (sign, f"Train/{sign}/{sign:05d}_{track:05d}_{frame:05d}.png")
            for sign in range(43)
            for track in range(2)
            for frame in range(2)
        ],
        "Test": [(sign, f"Test/{sign:05d}.png") for sign in range(43)],
    }
    for name, rows in paths.items():
        (folder / f"{name}.csv").write_text(header + "".join(f"9,9,1,1,8,8,{sign},{path}\n" for sign, path in rows))
        for _, path in rows:
            picture(folder / path)


def test_kaggle_layout(tmp_path: Path) -> None:
    kaggle(tmp_path)
    dataset = read(tmp_path, GTSRBSettings())
    found = packed_ids(dataset)
    assert {split: len(ids) for split, ids in found.items()} == {"train": 172, "test": 43}
    assert found["train"]["Train/14/00014_00001_00000.png"] == ("14 Stop", "unique")
    groups = {(sample := recipe()).source_id: sample.group for recipe in dataset.splits["train"]}
    assert groups["Train/14/00014_00001_00000.png"] == groups["Train/14/00014_00001_00001.png"] == "00014_00001"
    assert len(set(groups.values())) == 86
    (tmp_path / "Train" / "1" / "00001_00000_00000.png").unlink()
    (tmp_path / "Test.csv").unlink()
    text = read_message(tmp_path)
    assert "Train.csv:6: Train/1/00001_00000_00000.png is missing in" in text
    assert "Test.csv: cannot be read: No such file or directory" in text


def test_numbers_of_the_paper(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = GTSRBSettings(split="paper")
    assert "split=paper: needs 4,800 train images, but there are 172" in read_message(root, paper)
    monkeypatch.setitem(PAPER, "train", 90)
    monkeypatch.setitem(PAPER, "test", 43)
    dataset = read(root, paper)
    found, everything = packed_ids(dataset), packed_ids(read(root, GTSRBSettings()))
    assert {split: len(ids) for split, ids in found.items()} == {"train": 90, "test": 43}
    assert dataset.arguments == {"seed": 0, "split": "paper"}
    assert found["train"].items() <= everything["train"].items()
    counts = collections.Counter(sign for sign, _ in found["train"].values())
    assert sorted(counts.values()) == [2] * 39 + [3] * 4
    assert packed_ids(read(root, GTSRBSettings(split="paper", seed=1)))["train"] != found["train"]
    some = next(iter(everything["train"].keys() - found["train"].keys()))
    edit(
        root / Path(some).parent / f"GT-{Path(some).parent.name}.csv",
        row(Path(some).name, int(Path(some).parent.name)),
        "",
    )
    (root / some).unlink()
    kept = packed_ids(read(root, paper))["train"]
    assert len(kept.keys() - found["train"].keys()) <= 2  # one image less moves few others
