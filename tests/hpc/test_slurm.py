"""Batch script of slurm/sweep_one_node.sbatch, with a stand-in for Python."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "slurm" / "sweep_one_node.sbatch"
PYTHON = """#!/bin/sh
trap 'echo told > told; exit 143' TERM
echo "$@" > started
while true; do sleep 0.05; done
"""


@pytest.fixture
def repository(tmp_path) -> Path:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def test_the_signal_before_the_end_of_the_time_reaches_the_sweep(repository):
    """Slurm sends it to the batch shell alone, as this test does."""
    assert "#SBATCH --signal=B:TERM@120" in SCRIPT.read_text().splitlines()
    variables = {"SLURM_SUBMIT_DIR": str(repository), "SLURM_GPUS_ON_NODE": "4"}
    job = subprocess.Popen(["bash", str(SCRIPT), "a.yaml", "seeds=[0]"], env=os.environ | variables)
    try:
        deadline = time.monotonic() + 30
        while not (repository / "started").exists() or not (repository / "started").read_text():
            assert time.monotonic() < deadline, "timed out"
            time.sleep(0.02)
        job.send_signal(signal.SIGTERM)
        assert job.wait(30) == 143
    finally:
        job.kill()
        job.wait()
    assert (repository / "started").read_text() == "-m fgssl.sweep --jobs 4 a.yaml seeds=[0]\n"
    assert (repository / "told").exists()


def test_a_job_without_a_gpu_stops(repository):
    environment = {key: value for key, value in os.environ.items() if key != "SLURM_GPUS_ON_NODE"}
    environment["SLURM_SUBMIT_DIR"] = str(repository)
    ended = subprocess.run(["bash", str(SCRIPT), "a.yaml"], env=environment, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "the job got no GPU" in ended.stderr
    assert not (repository / "started").exists()
