"""Files are UTF-8 whatever the locale, and text that a terminal cannot show ends no command."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NO_TEXT_FILES = ("os", "Image", "formatter")
"""Modules and objects with an `open` or `write_text` that has no encoding."""


def unstated(tree: ast.AST) -> Iterator[int]:
    """Yield the line of each call that opens a file or reads a pipe as text in the encoding of the locale.

    The rule PLW1514 of ruff finds about half of them.
    """
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or any(keyword.arg in ("encoding", None) for keyword in call.keywords):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        receiver = getattr(getattr(call.func, "value", None), "id", "")
        given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        modes = [node.value for node in given if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        opens = name == "open" and not any("b" in mode for mode in modes)
        if receiver not in NO_TEXT_FILES and (opens or name in ("read_text", "write_text")):
            yield call.lineno
        if any(keyword.arg in ("text", "universal_newlines") for keyword in call.keywords):
            yield call.lineno


@pytest.mark.parametrize("package", ["fgssl", "hpc", "benchmarks", "docs"])
def test_every_text_file_states_its_encoding(package: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for line in unstated(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_the_check_finds_them() -> None:
    code = "open(f)\nf.open('a')\nf.read_text()\nrun(c, text=True)\nf.open('rb')\nf.read_text(encoding='utf-8')"
    assert list(unstated(ast.parse(code))) == [1, 2, 3, 4]


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SWEEP = """
name: letters
title: Größe ü → § ±
seeds: [0]
settings:
  data: {toy: {image_size: 16, train_images_per_species: 6, test_images_per_species: 2}}
  method: {name: start_encoder}
  views: {image_size: 16}
  encoder: {name: resnet18, arguments: {channels: [8, 8, 16, 16], layers: [1, 1, 1, 1]}}
  resources: {device: cpu}
  evaluation: {linear: {epochs: 1, learning_rates: [0.1]}}
arms:
  base: {}
"""


def run(locale: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run `fgssl` in another locale."""
    command = [sys.executable, "-m", "fgssl", *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **locale}, capture_output=True, check=False)


@pytest.mark.parametrize("locale", [ASCII, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_locale_without_the_characters_ends_no_command(locale: dict[str, str], tmp_path: Path) -> None:
    sweep = tmp_path / "letters.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    ended = run(locale, "sweep", sweep, "--out", tmp_path / "out", "--dry-run")
    assert ended.returncode == 0, ended.stderr.decode()
    assert rb"\u2192" in ended.stdout


@pytest.mark.slow
def test_a_sweep_in_ascii_writes_its_table_in_utf8(tmp_path: Path) -> None:
    sweep, out = tmp_path / "letters.yaml", tmp_path / "out"
    sweep.write_text(SWEEP, encoding="utf-8")
    commands: list[list[object]] = [["sweep", sweep, "--out", out], ["status", out], ["aggregate", out]]
    for command in commands:
        ended = run(ASCII, *command)
        assert ended.returncode == 0, ended.stderr.decode()
    assert "Größe ü → § ±" in (out / "table.md").read_text(encoding="utf-8")


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    """A setting must be text; a folder may have any name, and the next command holds it as bash reads it."""
    sweep = tmp_path / "letters.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    ended = run({}, "sweep", sweep, "title=a\udcffb", "--dry-run")
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"error: command line: title: 'a\\udcffb': holds bytes that are not UTF-8")
    ended = run({}, "sweep", sweep, "--out", tmp_path / "o\udcff", "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.endswith(f"$'--out={tmp_path}/o\\xff'  # run it\n".encode()), ended.stderr
