"""`fgssl doctor`, from the login node to its job."""

from pathlib import Path

import pytest

from fgssl.__main__ import invoke
from fgssl.errors import UserError
from hpc.cluster.doctor import self_test
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.site.profile_files import load_profile
from tests.hpc.cluster.doctor.conftest import Recorded, partition
from tests.hpc.fake_slurm.cluster import FakeSlurm


def test_no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no scontrol on PATH: Slurm's commands are required"):
        invoke(["doctor", "--dry-run"])


def test_dry_run(recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    for line in ("#SBATCH --nodes=2", "#SBATCH --gpus-per-node=2", "#SBATCH --cpus-per-task=16", "#SBATCH --requeue"):
        assert line in printed.splitlines()
    assert "-m hpc.cluster.doctor.node_checks" in printed
    assert "per_node: 4" in printed
    assert not (tmp_path / "out").exists()


def test_impossible_job(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """The findings of the login node are reported all the same."""
    recorded.says("partition", partition("gpu", default="YES", time="00:05:00"))
    assert invoke(["doctor", "--dry-run"]) == 1
    printed = capsys.readouterr().out
    assert "warning  self-test: not run" in printed
    assert "13 must not exceed 5 for one job" in printed
    assert "longest_walltime_min: 5" in printed


@pytest.fixture
def cluster(fake_slurm: FakeSlurm, recorded: Recorded) -> FakeSlurm:
    """Return a cluster that accepts jobs and reports the recorded configuration."""
    for command in ("sbatch", "squeue", "scancel", "sacct"):
        (recorded.folder / command).unlink()
    return fake_slurm


def test_refused_job(cluster: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.configure(accounts=["another"])
    assert invoke(["doctor", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "warning  self-test: not run: " in printed
    assert "Invalid account or account/partition combination specified" in printed
    assert load_profile(tmp_path / "out" / "generic.yaml").node.cores == 64


def test_job_that_does_not_start_is_canceled(
    cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(self_test, "_IN_QUEUE_S", 1.0)
    monkeypatch.setattr(self_test, "_POLL_S", 0.2)
    assert invoke(["doctor", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "0 of 4 processes completed their checks; the job was PENDING" in printed
    assert "unknown  restart after requeue" in printed
    assert [job["state"] for job in cluster.jobs().values()] == ["CANCELLED"]


def test_interrupted_doctor_leaves_no_job(cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(self_test, "_POLL_S", 0.1)
    monkeypatch.setattr(Slurm, "facts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        invoke(["doctor", "--out", str(tmp_path / "out")])
    assert [job["state"] for job in cluster.jobs().values()] == ["CANCELLED"]


def test_folder_that_cannot_be_made(cluster: FakeSlurm, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match=r"cannot create the folder: .*; choose another --out"):
        invoke(["doctor", "--out", str(tmp_path / "out")])
    assert cluster.jobs() == {}
