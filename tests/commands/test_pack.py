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
