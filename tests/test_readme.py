"""Every command of the README, run in order in a copy of the repository."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
INSTALLATION = re.compile(r"python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e \S+ && ")
TIMEOUT_S = 900


def _steps() -> list[tuple[str, str]]:
    """Return (language, text) of every block to run; console blocks are split by line, without the test command."""
    steps = []
    for language, body in re.findall(r"^```(console|yaml|python)\n(.*?)^```$", README, flags=re.M | re.S):
        lines = body.splitlines() if language == "console" else [body]
        steps += [(language, line.removeprefix("$ ")) for line in lines]
    return [(language, text) for language, text in steps if "-m pytest" not in text]


def _parameters() -> list[object]:
    slow = pytest.mark.slow
    return [pytest.param(language, text, id=text.splitlines()[0], marks=slow) for language, text in _steps()]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository with the datasets that the README requires."""
    folder = tmp_path_factory.mktemp("readme") / "fgssl"
    ignore = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "outputs", "shards")
    shutil.copytree(ROOT, folder, ignore=ignore)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for program, command in {"python": "", "fgssl": "-m fgssl "}.items():
        (programs / program).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command}"$@"\n')
        (programs / program).chmod(0o755)
    random = np.random.default_rng(0)
    _photos(folder / "photos", random)
    _gtsrb(folder / "GTSRB", random)
    return folder


def _picture(file: Path, random: np.random.Generator) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)


def _photos(folder: Path, random: np.random.Generator) -> None:
    for species in ("amanita/muscaria", "amanita/phalloides", "boletus/edulis", "boletus/reticulatus"):
        for number in range(24):
            _picture(folder / species / f"{number:03d}.png", random)


def _gtsrb(folder: Path, random: np.random.Generator) -> None:
    """Write two tracks of two frames, and two test images, for each of the 43 signs."""
    for sign in range(43):
        images = folder / "Final_Training" / "Images" / f"{sign:05d}"
        names = [f"{track:05d}_{frame:05d}.ppm" for track in range(2) for frame in range(2)]
        for name in names:
            _picture(images / name, random)
        _annotations(images / f"GT-{sign:05d}.csv", [(name, sign) for name in names])
    tests = [(f"{number:05d}.ppm", number % 43) for number in range(86)]
    for name, _ in tests:
        _picture(folder / "Final_Test" / "Images" / name, random)
    _annotations(folder / "GT-final_test.csv", tests)


def _annotations(file: Path, rows: list[tuple[str, int]]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=";")
        writer.writerow(["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"])
        writer.writerows([name, 32, 32, 0, 0, 31, 31, sign] for name, sign in rows)


def test_the_readme_has_steps_of_every_language() -> None:
    """Else nothing below would be run, and nobody would notice."""
    assert {language for language, _ in _steps()} == {"console", "yaml", "python"}
    assert sum("bin/fgssl " in text for _, text in _steps()) >= 5


@pytest.mark.parametrize(("language", "text"), _parameters())
def test_step(language: str, text: str, clone: Path) -> None:
    """A step may need the ones before it: they run in the README's order."""
    if language == "yaml":
        name = re.match(r"# (\S+\.yaml)\n", text)
        assert name, "a YAML block of the README begins with the name of its file"
        (clone / name[1]).write_text(text)
        return
    command = ["bash", "-c", INSTALLATION.sub("", text)] if language == "console" else [sys.executable, "-c", text]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    done = subprocess.run(
        command, cwd=clone, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@pytest.mark.slow
def test_output_folder_is_as_described(clone: Path) -> None:
    """After the steps above: each name in the README's tree of an output folder is there."""
    tree = re.search(r"^```\noutputs/ablation_sigma-demo/\n(.*?)^```$", README, flags=re.M | re.S)
    assert tree
    described = {name for line in tree[1].splitlines() for name in line.strip().split("  ")[0].split()}
    optional = {"failure.txt"}
    out = clone / "outputs" / "ablation_sigma-demo"
    for name in described - optional:
        pattern = re.sub(r"<\w+>", "*", name.rstrip("/"))
        assert [*out.glob(pattern), *out.glob(f"runs/*/{pattern}")], name


def test_the_first_command_is_the_one_that_is_promised() -> None:
    assert _steps()[0][1].endswith(" && .venv/bin/python -m fgssl.sweep sweeps/ablation_sigma.yaml")


def test_ci_runs_the_second_command_and_the_tests_it_leaves_out() -> None:
    second = next(line for line in README.splitlines() if line.startswith("$ ") and "-m pytest" in line)
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert second.removeprefix("$ ") in lines
    (options,) = re.findall(r'^addopts = "(.*)"$', (ROOT / "pyproject.toml").read_text(), flags=re.M)
    assert options.endswith("-m 'not slow and not slurm'")
    assert any("-m pytest -m 'slow or slurm'" in line for line in lines)


def test_every_sweep_is_listed() -> None:
    listed = set(re.findall(r"^\| `(\w+\.yaml)` \|", README, flags=re.M))
    assert listed == {file.name for file in (ROOT / "sweeps").glob("*.yaml")}
