"""Launches of real processes over gloo, with several runs per launch, since each launch takes ten seconds."""

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
    """Return `launch(world_size, cells)`, which runs `train_cells.py` on that many processes and requires success."""

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
    """Return trained.json of the only run in `out`."""
    (file,) = out.glob("runs/*/trained.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found
