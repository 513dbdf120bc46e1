"""The doctor on a real Slurm: a job on two nodes, its signal and its requeue."""

import subprocess
import sys
from pathlib import Path

import pytest

from hpc.cluster.site.profile_files import load_profile
from tests.slurm.conftest import Cluster

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]


def doctor(slurm: Cluster, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the doctor from a checkout, as on a login node."""
    environment = slurm.environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fgssl", "doctor", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)


def verdicts(output: str) -> dict[str, str]:
    """Return {subject: verdict}."""
    lines = (line.split(maxsplit=1) for line in output.splitlines() if ": " in line)
    return {subject.partition(": ")[0]: verdict for verdict, subject in lines}


@pytest.mark.slow
def test_two_nodes(slurm: Cluster, tmp_path: Path) -> None:
    ended = doctor(slurm, "--out", str(tmp_path), "cluster.node.cores=5", "cluster.partition=main")
    found = verdicts(ended.stdout)
    assert ended.returncode == 1, ended.stdout + ended.stderr  # what differs is to be mended
    assert found["node.cores"] == "differs"
    fine = ("self-test", "python", "memory", "GPUs", "USR2", "node-local scratch", "network", "files", "file locks")
    assert {subject: found.get(subject) for subject in fine} == dict.fromkeys(fine, "ok"), ended.stdout
    assert found["restart after requeue"] == "ok", ended.stdout
    assert found["CPU binding"] == "warning"  # this Slurm binds none (task/none)
    assert "4 processes on n1 and n2" in ended.stdout
    assert "process 3: 0,1" in ended.stdout
    assert "the second node reached n1" in ended.stdout
    profile = load_profile(tmp_path / "generic.yaml")
    assert (profile.requeue, profile.submit_from_jobs) == ("allowed", "allowed")
    assert profile.internet in ("allowed", "forbidden")
    assert profile.gpu is not None
    assert (profile.gpu.per_node, profile.gpu.cores, profile.node.cores) == (2, 2, 5)  # the command line's word stays
    assert profile.partitions is not None
    assert profile.partitions["limited"].limits.submitted == 8
    assert profile.storage.node_local == "/tmp"
    assert slurm.queue() == {}


def test_without_accounting(slurm_without_accounting: Cluster) -> None:
    """What Slurm does not tell is no reason to stop."""
    ended = doctor(slurm_without_accounting, "--dry-run", "cluster.gpu=null")
    assert ended.returncode == 1, ended.stderr
    assert verdicts(ended.stdout)["accounts"] == "unknown"
    assert "#SBATCH --nodes=2" in ended.stdout
    assert "array_index: 1000" in ended.stdout
    assert slurm_without_accounting.queue() == {}
