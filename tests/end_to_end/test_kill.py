"""SIGKILL at random moments of a real sweep: after a rerun, the table equals that of an undisturbed sweep."""

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan

ROOT = Path(__file__).parents[2]
NO_RESULTS = {"wall_s"}
"""Columns of rows.csv that describe the execution of a run and not its result."""
KILLS = 5

SWEEP = f"""
name: kill
title: Two seeds of everything that can be interrupted
baseline: mocov2
seeds: [0, 1]
preset: demo
settings:
  data: {{toy: {{train_images_per_species: 16, test_images_per_species: 4}}}}
  method: {{name: synthesized, bank_size: 128}}
  training: {{epochs: 3}}
  evaluation: {{linear: {{epochs: 20}}}}
  resources: {{checkpoint_every_s: 0}}
arms:
  mocov2: {{settings: {{method: {{noise: {{variant: none}}}}}}}}
  synthesized: {{}}
presets:
  demo:
    extends: {ROOT / "sweeps" / "presets" / "demo.yaml"}
    stages: {{pretrain: {{training: {{epochs: 2}}}}, decoder: {{training: {{epochs: 2}}}}}}
"""


def _start(sweep: Path, out: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "fgssl", "sweep", str(sweep), "--out", str(out), "--jobs", "2"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _descendants(pid: int) -> list[int]:
    """Return every process below `pid`, in any group or session."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it ended while we looked
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        waiting += (below := children.get(waiting.pop(), []))
        found += below
    return found


def _wait_for_training(out: Path, since: float, patience_s: float = 300) -> None:
    """Wait until a run has taken a step after `since`."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):  # a run renames the file just now
            if any(file.stat().st_mtime > since for file in out.glob("runs/*/progress.json")):
                return
        time.sleep(0.05)
    raise AssertionError(f"no run took a step within {patience_s} s")


def _results(out: Path) -> list[dict[str, str]]:
    with (out / "rows.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in NO_RESULTS} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_killed_sweeps_end_in_the_same_rows(tmp_path: Path) -> None:
    sweep = tmp_path / "kill.yaml"
    sweep.write_text(SWEEP)

    undisturbed = _start(sweep, tmp_path / "undisturbed")
    output, _ = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, output

    # Odd kills spare the jobs: the sweep's process alone dies, and those it left behind meet the next sweep.
    moments = random.Random(0)
    out = tmp_path / "killed"
    resumable = 0
    for kill in range(KILLS):
        began = time.time()
        process = _start(sweep, out)
        _wait_for_training(out, began)
        time.sleep(moments.uniform(0, 3))
        victims = [process.pid] if kill % 2 else [process.pid, *_descendants(process.pid)]
        for victim in victims:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue  # just ended
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the sweep had ended before it was killed"
        resumable += any((out / "runs").glob("*/checkpoints/step-*"))
    assert resumable, "no kill met a run with a checkpoint"

    last = _start(sweep, out)
    output, _ = last.communicate(timeout=600)
    assert last.returncode == 0, output
    assert _results(out) == _results(tmp_path / "undisturbed")
    assert {row["state"] for row in _results(out)} == {"DONE"}
    # Nothing of the attempts that were killed is left beside the results.
    runs = [run.run for run in plan(expand(sweep)).runs]
    assert sorted(folder.name for folder in (out / "runs").iterdir()) == sorted(set(runs))
    leftovers = [file for file in (out / "runs").glob("*/checkpoints") if file.exists()]
    assert not leftovers
