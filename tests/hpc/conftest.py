"""A small sweep, and frozen code in which runs are faked."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpc.sweeps.grid import expand
from hpc.sweeps.plan import SweepPlan, plan
from hpc.sweeps.snapshot import freeze, packages
from hpc.sweeps.state import State, states
from tests.hpc.fake_slurm.cluster import FakeSlurm

SWEEP = """
name: small
title: Small
baseline: base
seeds: [0, 1]
settings:
  data: {toy: {train_images_per_species: 6, test_images_per_species: 2}}
  start: {encoder: {stage: pretrain}, decoder: {stage: decoder}}
  method: {name: synthesized, base: {queue_size: 128}}
  views: {image_size: 32}
  evaluation: {linear: {epochs: 1, learning_rates: [1.0]}}
stages:
  pretrain: {start: {encoder: null, decoder: null}, method: {noise: {variant: none}}, training: {epochs: 3}}
  decoder: {start: {decoder: null}, method: {name: decoder}, training: {optimizer: {name: adam}}}
arms:
  base: {settings: {method: {noise: {variant: none}}}}
  grad_cam:
    settings: {method: {noise: {variant: grad_cam}}}
    grid: {method.noise.sigma_grad_cam: [0.25, 0.5]}
"""


@dataclass
class SmallSweep:
    """Plan of the sweep above, and its output folder."""

    file: Path
    plan: SweepPlan
    out: Path

    def behave(self, *behaviors: tuple[str, str]) -> None:
        """Set the behavior of runs (see `fake_run`)."""
        (self.out / "behavior.json").write_text(json.dumps(dict(behaviors)))

    def attempts(self) -> list[dict[str, Any]]:
        log = self.out / "executed.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def executed(self) -> list[str]:
        return [attempt["run"] for attempt in self.attempts()]

    def run(self, kind_or_cell: str, seed: int = 0) -> str:
        """Return the name of the run of a shared stage or of a cell."""
        of_stage = [run.run for run in self.plan.runs if (run.stage, run.seed) == (kind_or_cell, seed)]
        return of_stage[0] if of_stage else self.plan.of_cell[kind_or_cell, seed].run

    def states(self) -> dict[str, State]:
        """Return {label: state}."""
        found = states(self.plan.runs, self.out)
        return {run.label: found[run.key] for run in self.plan.runs}


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SWEEP)
    return file


@pytest.fixture
def small(sweep_file: Path, tmp_path: Path) -> SmallSweep:
    out = tmp_path / "out"
    out.mkdir()
    return SmallSweep(sweep_file, plan(expand(sweep_file)), out)


@pytest.fixture
def fake_sources(tmp_path: Path) -> Path:
    """Return a folder with copies of both packages, where `fgssl/run/execution.py` is faked."""
    return _copy_with_fake_run(tmp_path / "sources")


@pytest.fixture(scope="session")
def frozen_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    sources = _copy_with_fake_run(folder / "sources")
    return freeze([sources / "fgssl", sources / "hpc"], folder / "code")


@pytest.fixture
def fake_code(tmp_path: Path, frozen_once: Path) -> Path:
    """Return a frozen copy of that code, which a test may damage."""
    return Path(shutil.copytree(frozen_once, tmp_path / "code" / frozen_once.name))


def _copy_with_fake_run(sources: Path) -> Path:
    for package in packages():
        shutil.copytree(package, sources / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(Path(__file__).with_name("fake_run.py"), sources / "fgssl" / "run" / "execution.py")
    return sources


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Return a Slurm cluster whose commands are first on PATH; see `FakeSlurm` for how its jobs advance."""
    for name in os.environ:
        if name.startswith(("SLURM", "SBATCH", "SQUEUE", "SACCT", "SCANCEL")):
            monkeypatch.delenv(name)
    cluster = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{cluster.commands}{os.pathsep}{os.environ['PATH']}")
    return cluster
