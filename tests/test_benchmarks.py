"""Every part of `benchmarks.gpu`, on a small network on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_part_of_the_gpu_benchmark_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", str(tmp_path), "--toy", "--limit-s", "480"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=500)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {"step synthesized bf16", "profile mocov2", "exact mocov2", "loading with 8 threads"} <= found.keys()
    assert not [name for name, values in found.items() if {"failed", "not run"} & values.keys()]
    assert "| mocov2 bf16 |" in (tmp_path / "gpu.md").read_text()
