"""Batch scripts that train one run, with stand-ins for Python, `accelerate` and Slurm's commands."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
JOB = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NTASKS": "4",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURM_NODEID": "0",
    "SLURMD_NODENAME": "localhost",
}
PYTHON = """#!/bin/sh
case "$1" in -c) echo 23456; exit ;; esac
echo "$@" >> arguments
while [ -e wait ]; do sleep 0.05; done
exit "$(cat ends_with)"
"""
ACCELERATE_LAUNCH = """#!/bin/sh
echo "$@" >> launched
while [ "$1" != --no_python ]; do shift; done
shift
"$@" || exit 1
"""
SRUN = """#!/bin/sh
while [ "$1" != bash ]; do shift; done
exec "$@"
"""
SCRIPTS = ("train_several_nodes", "train_accelerate")


@pytest.fixture
def repository(tmp_path) -> Path:
    """Return a folder with stand-ins for Python, `accelerate`, srun and scontrol, which log their arguments."""
    for path, content in (
        (".venv/bin/python", PYTHON),
        (".venv/bin/accelerate", ACCELERATE_LAUNCH),
        ("bin/srun", SRUN),
        ("bin/scontrol", '#!/bin/sh\necho "$@" >> scontrol\n'),
    ):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)
    return tmp_path


def _shell() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MASTER_"))}


def _batch(name: str, repository: Path, arguments: Sequence[str] = ("a.yaml",)) -> "subprocess.Popen[str]":
    variables = JOB | {
        "SLURM_SUBMIT_DIR": str(repository),
        "SLURM_GPUS_ON_NODE": "2",
        "PATH": f"{repository / 'bin'}:{os.environ['PATH']}",
    }
    command = ["bash", str(ROOT / "slurm" / f"{name}.sbatch"), *arguments]
    return subprocess.Popen(command, env=_shell() | variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(("ends_with", "status", "requeued"), [(75, 75, True), (0, 0, False), (2, None, False)])
def test_only_an_interrupted_run_is_requeued(repository, name, ends_with, status, requeued):
    (repository / "ends_with").write_text(str(ends_with))
    job = _batch(name, repository, ["a.yaml", "seed=1"])
    _, messages = job.communicate(timeout=120)
    assert job.returncode == status if status is not None else job.returncode not in (0, 75), messages
    told = repository / "scontrol"
    assert (told.read_text() if told.exists() else "") == ("requeue 17\n" if requeued else "")
    expected = "-m fgssl.train a.yaml seed=1 resources.expected_processes=4\n"
    assert (repository / "arguments").read_text() == expected
    assert not list(repository.glob(".requeue*"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_signal_before_the_run_is_ready_does_not_end_it(repository, name):
    """Slurm sends USR2 to every process of the step, srun's own and the script's apart."""
    assert "#SBATCH --signal=USR2@180" in (ROOT / "slurm" / f"{name}.sbatch").read_text().splitlines()
    (repository / "wait").touch()
    (repository / "ends_with").write_text("0")
    job = _batch(name, repository)
    deadline = time.monotonic() + 120
    while not (repository / "arguments").exists():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
    step = _descendants(job.pid)
    assert len(step) >= 2
    for process in step:
        with contextlib.suppress(ProcessLookupError):  # a `sleep` that is over
            os.kill(process, signal.SIGUSR2)
    (repository / "wait").unlink()
    _, messages = job.communicate(timeout=120)
    assert job.returncode == 0, messages


def _descendants(process: int) -> list[int]:
    return [child.pid for child in psutil.Process(process).children(recursive=True)]


def test_accelerate_is_told_the_number_of_all_nodes_together(repository):
    (repository / "ends_with").write_text("0")
    _, messages = _batch("train_accelerate", repository).communicate(timeout=120)
    assert not messages
    told = (repository / "launched").read_text()
    assert "--num_machines 2 --machine_rank 0 --num_processes 4" in told
    assert "--main_process_ip localhost --main_process_port 23456" in told


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_training_job_without_a_gpu_stops(repository, name):
    script = ROOT / "slurm" / f"{name}.sbatch"
    environment = _shell() | JOB | {"SLURM_SUBMIT_DIR": str(repository)}
    ended = subprocess.run(["bash", str(script), "a.yaml"], env=environment, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "the job got no GPU" in ended.stderr
    assert not (repository / "arguments").exists()
