"""Sweep of eight runs that train nothing, submitted to a real Slurm."""

import contextlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgssl.store.files import record_json, write_atomically
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import ClusterSweep, on_cluster
from hpc.cluster.job_store import JobStore
from hpc.cluster.keeper import keeper_request
from hpc.cluster.observe import observe
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.site.profile_files import load_profile
from hpc.cluster.status import RunStatus
from hpc.cluster.sync import Report, synchronize
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import SweepPlan, plan
from hpc.sweeps.snapshot import freeze, packages
from tests.slurm.conftest import Cluster

ROOT = Path(__file__).parents[2]
SWEEP = """
name: small
title: Small
baseline: base
seeds: [0, 1]
settings:
  resources: {device: cpu}
  views: {image_size: 32}
  start: {decoder: {stage: decoder}}
  method: {name: synthesized}
stages:
  decoder: {start: {decoder: null}, method: {name: decoder}, training: {optimizer: {name: adam}}}
arms:
  base: {settings: {method: {noise: {variant: none}}}}
  grad_cam:
    settings: {method: {noise: {variant: grad_cam}}}
    grid: {method.noise.sigma_grad_cam: [0.25, 0.5]}
jobs:
  default: {walltime_min: 10}
  decoder: {nodes: 2, processes_per_node: 2}
"""
RUNS = 8
STEPS = 40
SIGMA = "grad_cam sigma_grad_cam=0.25"


@dataclass
class Swept:
    """Sweep to submit, and its results."""

    plan: SweepPlan
    sweep: ClusterSweep
    out: Path
    slurm: Cluster

    def sync(self) -> Report:
        return synchronize(self.out)

    def views(self) -> Mapping[str, RunStatus]:
        return observe(self.sweep, self.out, JobStore(self.out), Slurm()).runs

    def states(self) -> Counter[str]:
        return Counter(str(view.state) for view in self.views().values())

    def until(self, true: Callable[[], bool], timeout_s: float = 90.0) -> None:
        self.slurm.until(true, self.told, timeout_s)

    def until_done(self, timeout_s: float = 120.0) -> None:
        """Make passes from time to time, as a user or a keeper does, until the sweep is done."""
        deadline = time.monotonic() + timeout_s
        while self.states() != Counter({"DONE": len(self.sweep.runs)}):
            assert time.monotonic() < deadline, self.told()
            self.sync()
            time.sleep(1.0)

    def told(self) -> str:
        views = [(view.run.label, str(view.state), view.job_id, view.reason) for view in self.views().values()]
        logs = "\n".join(f"{log.name}: {log.read_text()[-600:]}" for log in (self.out / "cluster" / "logs").iterdir())
        return f"{views}\n{self.slurm.queue()}\n{logs}"

    def behave(self, how: str, runs: Iterable[str]) -> None:
        (self.out / "behavior.json").write_text(json.dumps(dict.fromkeys(runs, how)))

    def go(self) -> None:
        (self.out / "go").touch()

    def run(self, cell: str, seed: int) -> str:
        return self.plan.of_cell[cell, seed].run

    def logged(self, name: str) -> Counter[str]:
        return Counter(record["run"] for record in self.records(name))

    def records(self, name: str) -> Iterator[dict[str, Any]]:
        """Return the lines of a log of `fake_run`, without those that a full disk cut short."""
        file = self.out / f"{name}.log"
        for line in file.read_text().splitlines() if file.exists() else ():
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def results(self) -> dict[str, Any]:
        records = {
            run.run: json.loads((self.out / "runs" / run.run / "trained.json").read_text()) for run in self.sweep.runs
        }
        return {name: int(record["state_sha256"]) for name, record in records.items()}

    def check(self, steps: int = STEPS) -> None:
        """Check that every run was trained once, by one launch at a time, and has the result of an undisturbed run."""
        assert max(self.logged("ended").values()) == 1
        newest: dict[str, list[int]] = {}
        for record in self.records("published"):
            before = newest.setdefault(record["run"], record["generation"])
            assert record["generation"] >= before, f"{record} after {before}: written by one that had been replaced"
            newest[record["run"]] = record["generation"]
        assert newest.keys() == {run.run for run in self.sweep.runs}
        expected = {}
        for run in self.sweep.runs:
            state = 1
            for step in range(steps):
                state = (31 * state + step + run.configs[0]["seed"]) % 2**61
            expected[run.run] = state
        assert self.results() == expected


def freeze_fake_code(folder: Path) -> Path:
    """Return both packages, frozen, with runs that train nothing and need no torch."""
    sources = folder / "sources"
    for package in packages():
        shutil.copytree(package, sources / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(Path(__file__).with_name("fake_run.py"), sources / "fgssl" / "run" / "execution.py")
    (sources / "fgssl" / "collectives.py").write_text("def leave() -> None:\n    pass\n")
    return freeze([sources / "fgssl", sources / "hpc"], folder / "code")


def swept_in(out: Path, slurm: Cluster, code: Path, text: str, *overrides: str, profile: tuple[str, ...] = ()) -> Swept:
    """Return the sweep in `text`, ready for submission from `out`."""
    return Swept(*written_sweep(out, code, text, *overrides, profile=profile), out, slurm)


def written_sweep(
    out: Path, code: Path, text: str, *overrides: str, profile: tuple[str, ...] = ()
) -> tuple[SweepPlan, ClusterSweep]:
    """Write everything that a submission writes to `out` before it calls the scheduler."""
    (out / "code").mkdir(parents=True, exist_ok=True)
    if not (out / "code" / code.name).exists():
        (out / "code" / code.name).symlink_to(code)
    file = out / "small.yaml"
    file.write_text(text)
    planned = plan(expand(file, None, overrides))
    site = load_profile(ROOT / "slurm" / "generic.yaml", profile)
    runs = on_cluster(planned, site)
    sweep = ClusterSweep(
        name="small",
        profile="generic",
        keeper=keeper_request("small", out, site)[0],
        keeper_rest_s=3,
        limits={run.request.partition or "": site.limits_of(run.request.partition) for run in runs},
        retries=planned.grid.settings.retries,
        code=f"code/{code.name}",
        folder=str(out.parent),
        runs=tuple(runs),
    )
    JobStore(out).make()
    cluster_sweep.write(sweep, out)
    write_atomically(out / "plan.json", record_json(planned.record()))
    return planned, sweep
