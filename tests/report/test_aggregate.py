"""Command that writes the tables of a sweep's folder."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fgssl.__main__ import main
from fgssl.errors import UserError
from fgssl.report.aggregate import aggregate

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fgssl", "aggregate", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_command_writes_all_files_and_prints_the_table(out: Any) -> None:
    out.finish("base", 0, 50.0)
    ended = run(str(out.path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == (out.path / "table.md").read_text()
    assert "50.00 †" in ended.stdout
    assert {path.name for path in out.path.iterdir()} == {
        *("plan.json", "runs", "rows.csv", "table.csv", "table.md", "table.tex")
    }


def test_function_gives_the_table_and_is_idempotent(out: Any) -> None:
    out.finish("base", 0, 50.0)
    table = aggregate(out.path)
    files = {path: path.read_bytes() for path in out.path.glob("*.*")}
    pd.testing.assert_frame_equal(aggregate(out.path), table)
    assert {path: path.read_bytes() for path in out.path.glob("*.*")} == files


def test_no_plan(tmp_path: Path) -> None:
    ended = run(str(tmp_path))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {tmp_path}: holds no sweep (plan.json is missing): give the output folder")
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_cannot_be_written(out: Any) -> None:
    (out.path / "rows.csv").mkdir()  # permissions would not stop root
    with pytest.raises(UserError, match=r"rows\.csv: cannot be written"):
        aggregate(out.path)
    assert main(["aggregate", str(out.path)]) == 2


def test_needs_no_torch() -> None:
    code = "import sys, fgssl.commands.aggregate, fgssl.report.reference; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
