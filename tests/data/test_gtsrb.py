import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.sources.gtsrb import GROUPS, SIGNS, SOURCE, GTSRBSettings, read
from fgssl.errors import DataError

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


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def message(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(root, GTSRBSettings())
    return str(caught.value)


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
    replace(images / "00002" / "GT-00002.csv", row("00001_00000.ppm", 2), "")
    replace(images / "00003" / "GT-00003.csv", row("00000_00000.ppm", 3), row("00000_00000.ppm", 4))
    replace(images / "00005" / "GT-00005.csv", row("00000_00000.ppm", 5), row("00000_00000.ppm", 5) * 2)
    (images / "00006" / "00000_00000.ppm").rename(images / "00006" / "x.ppm")
    replace(images / "00006" / "GT-00006.csv", "00000_00000.ppm", "x.ppm")
    (images / "00007" / "GT-00007.csv").unlink()
    replace(root / "GT-final_test.csv", row("00008.ppm", 8), row("00008.ppm", 43))
    replace(root / "GT-final_test.csv", row("00009.ppm", 9), "00009.ppm\n")
    text = message(root)
    for expected in (
        "GT-00001.csv, line 3: 00000_00001.ppm is missing in",
        "00002/00001_00000.ppm: has no row in",
        "00003/00000_00000.ppm: stands in the folder of class 3, but its row has class 4",
        "GT-00005.csv, line 3: a second row for 00000_00000.ppm",
        "00006/x.ppm: its name must give track and frame",
        "GT-00007.csv: cannot be read: No such file or directory",
        "GT-final_test.csv, line 10: class '43' of 00008.ppm is not one of 0-42",
        "GT-final_test.csv, line 11: lacks Filename or ClassId",
        "class 07 Speed limit (100km/h): no images in train",
        "class 08 Speed limit (120km/h): no images in test",
    ):
        assert expected in text
    assert text.startswith("12 faults in the annotations:")


def test_many_faults_are_counted(root: Path) -> None:
    for sign in range(30):
        (root / "Final_Training" / "Images" / f"{sign:05d}" / "00000_00000.ppm").unlink()
    assert message(root).splitlines()[-1].strip() == "... and 10 more"


def test_missing_test_annotations(root: Path) -> None:
    (root / "GT-final_test.csv").unlink()
    assert "GTSRB/GT-final_test.csv: cannot be read: No such file" in message(root)


def test_another_folder(tmp_path: Path) -> None:
    assert "no GTSRB here" in message(tmp_path)
    assert "give the folder that the official archives were unpacked into" in message(tmp_path)
