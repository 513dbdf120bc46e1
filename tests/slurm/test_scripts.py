"""Scripts that users submit by sbatch themselves, on a real Slurm."""

import sys
from pathlib import Path

import pytest

from fgssl.store.manifest import Manifest
from tests.slurm.conftest import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a folder from which users submit, with the environment of the README."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} OMP_NUM_THREADS=1 exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return tmp_path


def test_pack(slurm: Cluster, repository: Path) -> None:
    small = "train_images_per_species=2"
    job = _submitted(slurm, repository, "pack.sbatch", "toy", str(repository / "shards"), small)
    slurm.wait(job, "COMPLETED", "FAILED", timeout_s=120)
    log = (repository / f"fgssl-pack-{job}.log").read_text()
    assert slurm.state(job) == "COMPLETED", log
    assert Manifest.read(repository / "shards").dataset == "toy"


def test_aggregate_says_what_is_no_sweep(slurm: Cluster, repository: Path) -> None:
    job = _submitted(slurm, repository, "aggregate.sbatch", str(repository / "nothing"))
    slurm.wait(job, "COMPLETED", "FAILED", timeout_s=120)
    assert slurm.state(job) == "FAILED"
    assert str(repository / "nothing") in (repository / f"fgssl-aggregate-{job}.log").read_text()


def _submitted(slurm: Cluster, repository: Path, script: str, *arguments: str) -> str:
    options = ("--parsable", "--mem=1G", "--time=5")
    return slurm.command(
        "env", "--chdir", str(repository), "sbatch", *options, str(ROOT / "slurm" / script), *arguments
    ).strip()
