"""The commands of README, tutorial and the guides that need no cluster, run in order in a copy of the repository.

The output that a page shows below a command must come out, up to numbers, times and the order of lines.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.docs.pages import ROOT, Block, block, blocks, text
from tests.report.page.browsers import PROGRAMS, opened

pytestmark = pytest.mark.slow

RUN = {
    "README.md",
    "docs/tutorial.md",
    *(f"docs/how-to/{name}.md" for name in ("your-images", "your-table", "one-run")),
}
RUN |= {"docs/how-to/several-gpus.md"}
NOT_HERE = re.compile(r"^sbatch|-m pytest|accelerate launch|--cluster")
"""Commands that need a cluster, GPUs, or a test run inside the tests: they are only parsed (test_commands.py)."""
LACKS_INPUTS = ".venv/bin/fgssl sweep sweeps/main.yaml --preset paper --dry-run"
"""A command that ends with exit code 2, as the page explains."""
ONE_RUN = "docs/how-to/one-run.md"
"""Page whose config others take, and whose Python is run; that of others is saved, or needs the internet."""
INSTALLATION = re.compile(r"python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e \S+( && )?")
TIMEOUT_S = 1800


def _steps() -> list[tuple[str, Block, str, list[str]]]:
    """Return (page, block, command, output shown) of everything that is saved or run."""
    steps: list[tuple[str, Block, str, list[str]]] = []
    for page in sorted(RUN):
        for found in blocks(page, "console", "yaml", "python", "diff"):
            if found.language == "console":
                commands = [(INSTALLATION.sub("", command), shown) for command, shown in found.commands()]
                steps += [(page, found, command, shown) for command, shown in commands if command]
            elif found.file is not None or found.language == "diff" or (found.language, page) == ("python", ONE_RUN):
                steps.append((page, found, "", []))
    return [step for step in steps if not NOT_HERE.search(step[2])]


def _parameters() -> list[object]:
    return [pytest.param(*step[1:], id=f"{step[0]}: {step[2] or step[1].text.splitlines()[0]}") for step in _steps()]


@pytest.fixture(scope="module")
def clone_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`clone_for(page)`: a copy of the repository for a page, with the data that the page takes for granted."""
    made: dict[str, Path] = {}

    def clone(page: str) -> Path:
        if page not in made:
            made[page] = _clone(tmp_path_factory.mktemp("docs") / "fgssl", page)
        return made[page]

    return clone


def _clone(folder: Path, page: str) -> Path:
    ignore = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "outputs", "shards", "build")
    shutil.copytree(ROOT, folder, ignore=ignore)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for program, command in {"python": "", "fgssl": "-m fgssl "}.items():
        (programs / program).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command}"$@"\n')
        (programs / program).chmod(0o755)
    if page != "docs/tutorial.md":  # which draws its own
        random = np.random.default_rng(0)
        _photos(folder / "photos", random)
        _masks(folder)
        _table(folder)
        _gtsrb(folder / "GTSRB", random)
        (folder / "photos.yaml").write_text(block(ONE_RUN, "yaml", "# photos.yaml\n"))
    if page not in ("docs/tutorial.md", "docs/how-to/your-images.md"):  # which pack them
        _run(".venv/bin/fgssl pack folder photos shards/photos", folder)
    return folder


def _picture(file: Path, random: np.random.Generator) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)


def _photos(folder: Path, random: np.random.Generator) -> None:
    for species in ("amanita/muscaria", "amanita/phalloides", "boletus/edulis", "boletus/reticulatus"):
        for number in range(24):
            _picture(folder / species / f"{number:03d}.png", random)


def _masks(folder: Path) -> None:
    """Draw a mask of each photo, whose object is its middle."""
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[8:24, 8:24] = 255
    for photo in folder.glob("photos/*/*/*.png"):
        file = folder / "masks" / photo.relative_to(folder / "photos")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(file)


def _table(folder: Path) -> None:
    """List the photos in photos.csv, four of each species per observation."""
    with (folder / "photos.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "species", "genus", "observation"])
        for file in sorted(folder.glob("photos/*/*/*.png")):
            species, genus = file.parent.name, file.parent.parent.name
            writer.writerow([file.relative_to(folder), species, genus, f"{species} {int(file.stem) // 4}"])


def _gtsrb(folder: Path, random: np.random.Generator) -> None:
    """Draw two tracks of two frames of each of the 43 signs, and two test images."""
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


def _shows_the_report(command: str) -> bool:
    """Return whether a page shows the report that this command writes; others would take time for nothing."""
    return command.endswith(("sweeps/ablation_sigma.yaml", "sweeps/mine.yaml"))


def _run(command: str, folder: Path) -> str:
    """Run a command, raise if it fails, and return what it printed."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    if _shows_the_report(command):
        environment.pop("FGSSL_REPORT", None)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    expected = 2 if command == LACKS_INPUTS else 0
    assert done.returncode == expected, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def _pattern(line: str) -> str:
    """Return a line without what differs from run to run: numbers, hashes, the width of columns."""
    line = re.sub(r"\b[0-9a-f]{12,}\b|[+-]?\d+(?:[.:]\d+)*", "0", line)
    return re.sub(r"\s+", " ", re.sub(r"-{2,}", "--", line)).strip()


def _changed(file: Path, diff: str) -> None:
    """Add to a file what a block of language `diff` adds below its first line."""
    above, *added = (f"{line[1:]}\n" for line in diff.splitlines())
    content = file.read_text()
    assert content.count(above) == 1
    file.write_text(content.replace(above, above + "".join(added)))


@pytest.mark.parametrize(("step", "command", "shown"), _parameters())
def test_step(step: Block, command: str, shown: list[str], clone_for: Callable[[str], Path]) -> None:
    """A step may need the ones before it on its page: they run in the order of the page."""
    clone = clone_for(step.page)
    if step.language == "diff":
        _changed(clone / "sweeps" / "mine.yaml", step.text)
    elif step.file is not None:
        (clone / step.file).write_text(step.text)
    elif step.language == "python":
        (clone / "block.py").write_text(step.text)
        _run(".venv/bin/python block.py", clone)
    else:
        printed = set(map(_pattern, _run(command, clone).splitlines()))
        missing = [line for line in shown if line != "..." and _pattern(line) and _pattern(line) not in printed]
        assert not missing, f"{step.page}:{step.line} shows what does not come out"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_page_of_the_first_sweep_opens(
    program: str, clone_for: Callable[[str], Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After the steps above: the README's sweep, from its file, with its test images and the origin of a number."""
    file = clone_for("README.md") / "outputs" / "ablation_sigma-demo" / "report" / "index.html"
    with opened(program, tmp_path_factory.mktemp(program)) as browser:
        browser.open(file)
        assert browser.run("document.title") == "Strength of each noise (ablation_sigma, preset demo)"
        assert browser.run("document.querySelectorAll('#tables table').length") >= 6
        browser.wait("Array.from(document.querySelectorAll('#figures img')).every((image) => image.naturalWidth > 0)")
        browser.screenshot(tmp_path / f"{program}-top.png")
        browser.run("document.querySelector('button[data-origin]').click()")
        assert "mocov2: 3 of 3 runs are done" in browser.run("document.querySelector('dialog[open]').textContent")
        browser.run("document.querySelector('dialog[open] .close').click()")
        browser.run("document.getElementById('embedding').scrollIntoView({behavior: 'instant'})")
        assert browser.run("explorer.views.map((view) => view.map.points.length)") == [960, 960]
        browser.run("explorer.pin(7)")
        browser.wait("document.querySelector('.card .frame canvas')?.dataset.drawn !== undefined")
        browser.screenshot(tmp_path / f"{program}-embedding.png")
        assert browser.messages == []
        assert [one for one in browser.requests if not one.startswith("data:") and one != file.as_uri()] == []


def test_output_folder_is_as_described(clone_for: Callable[[str], Path]) -> None:
    """After the steps above: each name in the tree of an output folder is there."""
    page = "docs/reference/output-folder.md"
    tree = re.search(r"^```text\noutputs/ablation_sigma-demo/\n(.*?)^```$", text(page), flags=re.M | re.S)
    assert tree
    described = {name for line in tree[1].splitlines() for name in line.strip().split("  ")[0].split()}
    out = clone_for("README.md") / "outputs" / "ablation_sigma-demo"
    for name in described - {"failure.txt", "tensorboard/", "wandb/"}:  # of failed runs, and of trackers
        pattern = re.sub(r"<\w+>", "*", name.rstrip("/"))
        assert [*out.glob(pattern), *out.glob(f"runs/*/{pattern}")], name
