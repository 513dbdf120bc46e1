"""Addition of a measure: one file and one line."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fgssl.settings import config as configs
from fgssl.settings.fingerprints import evaluation_fingerprint
from tests.conftest import TINY
from tests.docs.pages import blocks

ROOT = Path(__file__).parents[2]
MEASURE, LINE = (block.text for block in blocks("docs/how-to/your-measure.md", "python"))


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a copy of the code to which a measure was added."""
    for package in ("fgssl", "hpc"):
        shutil.copytree(ROOT / package, tmp_path / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "code/fgssl/evaluation/measures/feature_norm.py").write_text(MEASURE)
    registry = tmp_path / "code/fgssl/settings/evaluation.py"
    registry.write_text(registry.read_text().replace('ClassifierAccuracy",\n', f'ClassifierAccuracy",\n    {LINE}'))
    return tmp_path / "code"


def rows(file: Path) -> list[dict[str, Any]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_new_measure_renames_no_evaluation(code: Path) -> None:
    script = """
from fgssl.settings.config import parse
from fgssl.settings.fingerprints import evaluation_fingerprint
for keys in ({}, {"feature_norm": True}):
    print(evaluation_fingerprint(parse({"evaluation": keys}, "test")))
"""
    command, environment = [sys.executable, "-c", script], {**os.environ, "PYTHONPATH": str(code)}
    before, asked = subprocess.check_output(command, cwd=code, env=environment, text=True).split()
    assert before == evaluation_fingerprint(configs.parse({}, "test")) != asked


@pytest.mark.slow
def test_a_measure_is_one_file_and_one_line(code: Path, tmp_path: Path) -> None:
    settings = TINY | {"method": {"name": "start_encoder"}, "evaluation": {"linear": None, "feature_norm": True}}
    sweep, out = tmp_path / "sweep.yaml", tmp_path / "out"
    sweep.write_text(json.dumps({"name": "small", "settings": settings, "arms": {"untrained": {}}, "seeds": [0]}))
    command = [sys.executable, "-m", "fgssl.sweep", str(sweep), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    (row,) = rows(out / "rows.csv")
    assert 0 < float(row["feature_norm"]) < 100
    entry = {line["metric"]: line for line in rows(out / "table.csv")}["feature_norm"]
    assert entry["mean"] == row["feature_norm"]
    described = (entry["unit"], entry["lower_is_better"], entry["note"])
    assert described == ("number", "True", "mean length of the features")
    table = (out / "table.md").read_text()
    assert "- feature_norm: mean length of the features; lower is better" in table
    assert "- rank1, rank5, mAP: percent" in table
