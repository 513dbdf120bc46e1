"""Launches of real processes over gloo: several runs a launch, since starting four processes takes ten seconds."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}

Launch = Callable[[int, Sequence[dict[str, Any]]], None]


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """`launch(world_size, cells)` runs `train_cells.py` on so many processes and fails the test where they fail."""

    def run(world_size: int, cells: Sequence[dict[str, Any]]) -> None:
        file = tmp_path_factory.mktemp("launch") / "cells.json"
        file.write_text(json.dumps(cells))
        script = [str(ROOT / "tests/distributed/train_cells.py"), str(file)]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
        command = [sys.executable, *(torchrun if world_size > 1 else []), *script]
        finished = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-6000:]

    return run


def record(out: Path) -> dict[str, Any]:
    """trained.json of the one run in `out`."""
    (file,) = out.glob("runs/*/trained.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found
