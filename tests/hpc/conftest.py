"""A small sweep, and frozen code in which runs are faked."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpc.grid import expand
from hpc.snapshot import freeze, packages
from hpc.stages import Plan, plan
from hpc.state import State, states

SWEEP = """
name: small
title: Small
baseline: base
seeds: [0, 1]
settings:
  data: {toy: {train_images_per_species: 6, test_images_per_species: 2}}
  start: {encoder: {stage: warm_up}, decoder: {stage: decoder}}
  method: {name: synthesized, base: {queue_size: 128}}
  views: {image_size: 32}
  evaluation: {linear: {epochs: 1}}
stages:
  warm_up: {start: {encoder: null, decoder: null}, method: {noise: {variant: none}}, training: {epochs: 3}}
  decoder: {start: {decoder: null}, method: {name: decoder}, training: {optimizer: {name: adam}}}
arms:
  base: {settings: {method: {noise: {variant: none}}}}
  grad_cam:
    settings: {method: {noise: {variant: grad_cam}}}
    grid: {method.noise.sigma_grad_cam: [0.25, 0.5]}
"""


@dataclass
class SmallSweep:
    """The plan of the sweep above and its output folder."""

    file: Path
    plan: Plan
    out: Path

    def behave(self, *behaviours: tuple[str, str]) -> None:
        """Set what runs do, as (run, behaviour) of `fake_run`."""
        (self.out / "behaviour.json").write_text(json.dumps(dict(behaviours)))

    def attempts(self) -> list[dict[str, Any]]:
        log = self.out / "executed.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def executed(self) -> list[str]:
        return [attempt["run"] for attempt in self.attempts()]

    def run(self, kind_or_cell: str, seed: int = 0) -> str:
        """Name of the run of a shared stage or of a cell."""
        of_stage = [stage.run for stage in self.plan.stages if (stage.kind, stage.seed) == (kind_or_cell, seed)]
        return of_stage[0] if of_stage else self.plan.runs[kind_or_cell, seed].run

    def states(self) -> dict[str, State]:
        """State by label."""
        found = states(self.plan.stages, self.out)
        return {stage.label: found[stage.key] for stage in self.plan.stages}


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
    """Folder of copies of both packages, with `fgssl/run.py` faked."""
    sources = tmp_path / "sources"
    for package in packages():
        shutil.copytree(package, sources / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(Path(__file__).with_name("fake_run.py"), sources / "fgssl" / "run.py")
    return sources


@pytest.fixture
def fake_code(tmp_path: Path, fake_sources: Path) -> Path:
    return freeze([fake_sources / "fgssl", fake_sources / "hpc"], tmp_path / "code")
