"""A sweep of 12 cells on a real Slurm and on this machine: `python -m tests.slurm.same_table [SEEDS]`.

The trainings are real, in mode `exact`; one stage and one arm use two nodes with two processes each. Some jobs are
interrupted, save and resume. The tables must be equal to the last digit.
"""

import argparse
import contextlib
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgssl.settings.layers import Layer, to_yaml
from hpc.cluster import cluster_sweep
from hpc.cluster.job_store import JobStore
from tests.conftest import TINY
from tests.slurm.conftest import Cluster, is_slurms, own_cluster

ROOT = Path(__file__).parents[2]
NOISE = "method.noise.sigma_grad_cam"
EXACT = {
    "encoder": {"batch_norm_group_size": 4},
    "training": {"global_batch_size": 16, "invariant": "exact"},
    "evaluation": {"linear": {"epochs": 2}},
    "resources": {"checkpoint_every_s": 2},
}
SWEEP: dict[str, Any] = {
    "name": "twelve",
    "title": "Twelve points",
    "baseline": "base",
    "seeds": [0],
    "stages": {
        "decoder": {
            "start": {"decoder": None},
            "method": {"name": "decoder"},
            "training": {"optimizer": {"name": "adam"}},
        }
    },
    "arms": {
        "base": {"settings": {"method": {"noise": {"variant": "none"}}}},
        "grad_cam": {"settings": {"method": {"noise": {"variant": "grad_cam"}}}, "grid": {NOISE: [0.25, 0.5, 1.0]}},
        "low_variance": {
            "settings": {"method": {"noise": {"variant": "low_variance"}}},
            "grid": {"method.noise.sigma_low_variance": [0.5, 1.0]},
        },
        "both": {
            "settings": {"method": {"noise": {"variant": "both"}}},
            "grid": {NOISE: [0.25, 0.5, 1.0], "method.noise.sigma_low_variance": [0.5, 1.0]},
        },
    },
    "jobs": {
        "default": {"walltime_min": 20, "cores_per_process": 4},  # a whole node, so that two real cores bear it
        "decoder": {"nodes": 2, "processes_per_node": 2, "cores_per_process": 2},
        "both": {"nodes": 2, "processes_per_node": 2, "cores_per_process": 2},
    },
}
START = {"start": {"decoder": {"stage": "decoder"}}}
PATIENCE_S = 3600.0


@dataclass(frozen=True)
class Both:
    """Result of `tables`."""

    cluster: str
    """Text of table.csv from the cluster."""
    local: str
    told_to_leave: int
    """Number of jobs that were interrupted."""
    launches: int
    """Number of launches of runs by jobs."""
    seconds: tuple[float, float]

    @property
    def points(self) -> set[str]:
        return {row["cell"] for row in csv.DictReader(self.cluster.splitlines())}


def tables(slurm: Cluster, folder: Path, sweep: Mapping[str, Any], chance: random.Random, told_to_leave: int) -> Both:
    """Run the sweep on the cluster and on this machine; raise `AssertionError` if it takes too long."""
    file = folder / "twelve.yaml"
    file.write_text(to_yaml({**sweep, "settings": Layer(TINY).merge(EXACT).merge(START)}))
    there, here = folder / "cluster", folder / "local"
    began, told = time.monotonic(), 0
    _run("fgssl", "sweep", str(file), "--cluster", "generic", "--out", str(there))
    while not all(run.done(there) for run in cluster_sweep.read(there).runs):
        assert time.monotonic() - began < PATIENCE_S, _run("fgssl", "status", str(there))
        time.sleep(5.0)
        running = [job for job, state in slurm.queue().items() if state == "RUNNING"]
        if told < told_to_leave and running and chance.random() < 0.5:
            with contextlib.suppress(subprocess.TimeoutExpired):  # of a busy machine
                told += slurm.attempt("scancel", "--signal=USR2", chance.choice(running)).returncode == 0
        _run("fgssl", "sync", str(there))
    between = time.monotonic()
    _run("fgssl", "sync", str(there))  # its table
    _run("fgssl", "sweep", str(file), "--out", str(here), "--jobs", "2")
    return Both(
        cluster=(there / "table.csv").read_text(),
        local=(here / "table.csv").read_text(),
        told_to_leave=told,
        launches=len(list(JobStore(there).launches())),
        seconds=(between - began, time.monotonic() - between),
    )


def _run(module: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-m", module, *arguments], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, f"{module}: {ended.stdout[-4000:]}{ended.stderr[-8000:]}"
    return ended.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="?", default=3)
    parser.add_argument("--told-to-leave", type=int, default=12, help="jobs; 12 where left out")
    given = parser.parse_args()
    for variable in filter(is_slurms, list(os.environ)):
        del os.environ[variable]
    with tempfile.TemporaryDirectory() as folder, own_cluster(accounting=True) as slurm:
        os.environ["SLURM_CONF"] = str(slurm.configuration)
        sweep = SWEEP | {"seeds": list(range(given.seeds))}
        both = tables(slurm, Path(folder), sweep, random.Random(0), given.told_to_leave)
    print(both.cluster)
    print(
        f"{len(both.points)} points, {given.seeds} seeds: {both.launches} launches, "
        f"{both.told_to_leave} jobs told to leave; "
        f"{both.seconds[0]:.0f} s on the cluster, {both.seconds[1]:.0f} s here; the same table: "
        f"{both.cluster == both.local}"
    )
    return 0 if both.cluster == both.local else 1


if __name__ == "__main__":
    sys.exit(main())
