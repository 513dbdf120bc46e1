import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgssl.__main__ import main
from fgssl.data.shards import ShardedSplit

SMALL = ["train_images_per_species=1", "test_images_per_species=1"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> tuple[int, str]:
        """Run the command and return (exit code, output on either stream)."""
        code = main(["pack", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_toy_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fgssl", "pack", "toy", str(tmp_path / "toy"), *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "dataset toy, 24 x species, 6 x genus" in done.stdout
    assert "train: 24 images, 1 shard," in done.stdout
    assert ShardedSplit(tmp_path / "toy", "test").version in done.stdout
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2
    assert again.stderr.startswith(f"error: {tmp_path}/toy: exists already")
    assert "Traceback" not in again.stderr


def test_folder_with_options_and_remarks(run, tmp_path: Path) -> None:
    for number, name in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png")):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 3), number, dtype=np.uint8)).save(tmp_path / "images" / name)
    (tmp_path / "images" / "a" / "notes.txt").write_text("hello")
    code, text = run("folder", tmp_path / "images", tmp_path / "shards", "name=pets", "test_fraction=0.5")
    assert code == 0
    assert "dataset pets, 2 x class" in text
    assert "test: 2 images" in text
    assert "1 file skipped, since" in text
    assert "notes.txt" in text
    assert ShardedSplit(tmp_path / "shards", "train").manifest.dataset == "pets"
    settings = f"data.dataset=pets data.folder={tmp_path / 'shards'}"
    assert text.splitlines()[-1] == f"next: fgssl sweep SWEEP.yaml {settings}  # train on these images"


def test_names_of_levels(run, tmp_path: Path) -> None:
    for number, name in enumerate(("a/x/1.png", "a/x/2.png", "b/y/1.png", "b/y/2.png")):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 3), number, dtype=np.uint8)).save(tmp_path / "images" / name)
    code, text = run("folder", tmp_path / "images", tmp_path / "shards", "levels=[species,family]")
    assert code == 0
    assert "dataset images, 2 x species, 2 x family" in text


def test_packing_and_verifying_show_how_far_they_are(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fgssl.progress.PLAIN_LINE_EVERY_S", 0.0)
    _, text = run("toy", tmp_path / "toy", *SMALL)
    assert "pack train: 24/24 images, " in text
    assert "pack test: 24/24 images, " in text
    _, text = run("--verify", tmp_path / "toy")
    assert f"verify {tmp_path / 'toy'}: 2/2 shards, " in text


def photographs(folder: Path) -> Path:
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((300, 400, 3), int(name[2]) * 50, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_every_source_takes_the_keys_of_packing(run, tmp_path: Path) -> None:
    images = photographs(tmp_path / "images")
    code, text = run("folder", images, tmp_path / "small", "shorter_side=100", "workers=2", "name=photos")
    assert code == 0
    assert "4 images shrunk to the shorter side" in text
    assert ShardedSplit(tmp_path / "small", "train").pixels(0).shape == (100, 133, 3)
    run("folder", images, tmp_path / "original", "shorter_side=original", "name=photos")
    assert ShardedSplit(tmp_path / "original", "train").pixels(0).shape == (300, 400, 3)
    _, text = run("gtsrb", "--help")
    assert "shorter_side=256" in text
    assert "accept_damaged=false" in text
    for expected in ("ground=white [white|black] Color", "shorter_side=256 [NUMBER|original] Shorter"):
        assert expected in " ".join(text.split())
    assert "split=official [official|paper] Choice" in " ".join(text.split())
    for expected in ("empty_labels=refuse [refuse|drop] Whether", "missing=[] Texts"):
        assert expected in " ".join(run("csv", "--help")[1].split())


def test_groups_are_counted(run, tmp_path: Path) -> None:
    photographs(tmp_path / "images")
    rows = [f"{number % 2}/{number}.png,c{number % 2},patient {number // 4}" for number in range(16)]
    for number in range(16):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        Image.fromarray(np.full((3, 3), number, dtype=np.uint8)).save(tmp_path / f"{number % 2}/{number}.png")
    (tmp_path / "table.csv").write_text("\n".join(["path,label,group", *rows]))
    _, text = run("csv", tmp_path / "table.csv", tmp_path / "shards")
    assert "train: 12 images in 3 groups, 1 shard, " in text
    assert "test: 4 images in 1 group, 1 shard, " in text
    assert "train: 12 images in 3 groups, " in run("--verify", tmp_path / "shards")[1]
    _, text = run("csv", tmp_path / "table.csv", tmp_path / "other", "group=path")
    assert " in " not in text.split("version")[0].split("dataset")[1]


def test_inspect(run, tmp_path: Path) -> None:
    run("folder", photographs(tmp_path / "images"), tmp_path / "shards")
    code, text = run("--inspect", tmp_path / "shards")
    assert code == 0
    assert "class: 2 classes" in text
    assert "images per class in train: 1\n" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["train", "test"] in lines
    assert ["a", "1", "1"] in lines
    assert "train: 2 images; width in px: 341; height in px: 256; 2 JPEG (RGB)" in text
    assert f"contact sheet: {tmp_path / 'shards.png'}" in text
    sheet = np.asarray(Image.open(tmp_path / "shards.png"))
    assert {int(sheet[60, 64].mean()) // 50, int(sheet[60, 192].mean()) // 50} <= {1, 2, 3, 4}  # a and b of train
    run("--inspect", tmp_path / "shards", "--sheet", tmp_path / "mine.png")
    assert (tmp_path / "mine.png").read_bytes() == (tmp_path / "shards.png").read_bytes()


def test_paths_of_contact_sheets_are_as_the_folder_was_given(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    run("toy", "../toy", *SMALL)
    assert "contact sheet: ../toy.png\n" in run("--inspect", "../toy/")[1]
    monkeypatch.chdir(tmp_path / "toy")
    assert f"contact sheet: {tmp_path / 'toy.png'}\n" in run("--inspect", ".")[1]


def test_folders_that_are_named_like_keys(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "lr=0.1")
    code, text = run("folder", "lr=0.1", "seed=1")
    assert (code, text.splitlines()[0].split("; ")[1]) == (
        2,
        "lr=0.1 was taken for a key: if it is a path, write ./lr=0.1",
    )
    code, text = run("folder", "./lr=0.1", "./seed=1", "test_fraction=0.5")
    assert code == 0
    assert "dataset lr=0.1, 2 x class" in text
    assert ShardedSplit(tmp_path / "seed=1", "test").manifest.arguments["seed"] == 0


def test_verify(run, tmp_path: Path) -> None:
    run("toy", tmp_path / "toy", *SMALL)
    code, text = run("--verify", tmp_path / "toy")
    assert code == 0
    assert "every shard is as it was packed" in text
    content = bytearray((tmp_path / "toy" / "test-00000.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "toy" / "test-00000.h5").write_bytes(content)
    code, text = run("--verify", tmp_path / "toy")
    assert code == 2
    assert "1 damaged shard:" in text
    assert "test-00000.h5: SHA-256 is" in text
    code, text = run("--verify", tmp_path / "nothing")
    assert code == 2
    assert "nothing: does not exist: " in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "SOURCE is missing: one of toy, folder, "),
        (["foldr", "x", "y"], "unknown source 'foldr': did you mean 'folder'? allowed: toy, folder, "),
        (["toy"], "source toy needs: fgssl pack toy DST [key=value ...]"),
        (["folder", "images"], "source folder needs: fgssl pack folder IMAGES DST"),
        (["folder", "images", "seed=1"], "source folder needs: fgssl pack folder IMAGES DST"),
        (["toy", "images", "shards"], "command line: shards: an override must have the form key.path=value"),
        (["toy", "x", "image_sise=64"], "image_sise: unknown key 'image_sise': did you mean 'image_size'?"),
        (["toy", "x", "image_size=large", "seed=-1"], "seed: -1 is not allowed"),
        (["toy", "x", "image_size=large", "seed=-1"], "image_size: 'large' is not allowed"),
        (["folder", "a", "b", "test_fraction=1.5"], "test_fraction: 1.5 is not allowed: input should be less than 1"),
        (["gtsrb", "nowhere", "x"], "nowhere: does not exist: "),
        (["--verify", "x", "toy"], "--verify takes one folder and nothing else"),
        (["--verify", "x", "--inspect", "x"], "--verify takes one folder and nothing else, not also --inspect"),
        (["--inspect", "x", "toy"], "--inspect takes one folder and nothing else, not also toy"),
        (["--inspect", "x"], "x: does not exist"),
        (["--sheet", "x.png", "toy"], "--sheet is the file of the contact sheet: give --inspect DST with it"),
        (["toy", "x", "shorter_side=64"], "shorter_side: source toy draws its images and stores them as they are"),
        (["folder", "a", "b", "shorter_sid=1"], "unknown key 'shorter_sid': did you mean 'shorter_side'?"),
        (["folder", "a", "b", "shorter_side=0"], "shorter_side: 0 is not allowed"),
        (["folder", "a", "b", "ground=green"], "ground: 'green' is not allowed: input should be 'white' or 'black'"),
    ],
)
def test_mistakes_are_explained(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = run(*arguments)
    assert code == 2
    assert expected in text
    assert list(tmp_path.iterdir()) == []
