"""CPU-seconds of what a user waits for: the first step of a run, and commands on a login node.

    python -m benchmarks.start OUT [--runs 1000] [--repeat 3] [--sweep SWEEP.yaml]

It makes up a sweep of `--runs` finished runs in OUT unless it is there, and prints the least CPU-seconds of each
command over `--repeat` processes. With `--sweep`, it also makes the runs of a sweep in preset `demo`, and prints which
share of their CPU-seconds its jobs spend on imports.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import SEEDS, write_sweep
from fgssl.errors import EXIT_INTERRUPTED
from fgssl.store.plan import read_plan
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import ClusterSweep, on_cluster
from hpc.cluster.site.profile_files import read_profile
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan
from tests.hpc.fake_slurm.cluster import FakeSlurm

FGSSL = (sys.executable, "-m", "fgssl")
EXECUTION = "import fgssl.run.execution"


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sweep", type=Path)
    given = parser.parse_args()
    many, small = given.out / f"runs-{given.runs}", given.out / "runs-10"
    for folder, runs in ((small, 10), (many, given.runs)):
        if not folder.exists():
            write_sweep(folder, runs // SEEDS, test=4, width=8)
    measure_start(small, given.repeat)
    measure_commands(small, many, given.repeat)
    if given.sweep is not None:
        measure_share(given.sweep)


def measure_start(small: Path, repeat: int) -> None:
    """Print the seconds until the first step of a run is done, and those of the imports before it."""
    show("import torch", [sys.executable, "-c", "import torch"], repeat)
    show("import all of a run", [sys.executable, "-c", EXECUTION], repeat)
    config = next(small.glob("runs/*/config.yaml"))
    with tempfile.TemporaryDirectory() as out:
        (Path(out) / "data").symlink_to((small / "data").absolute())
        settings = ("training.global_batch_size=32", "encoder.batch_norm_group_size=32", "resources.threads=1")
        command = [*FGSSL, "train", str(config), *settings, "--out", out, "--stop-after-step"]
        # Each process goes on from the checkpoint of the one before, so the first one alone starts from nothing.
        show("first step of a run", [*command, "1"], 1, code=EXIT_INTERRUPTED)
        steps = [seconds([*command, str(step)], code=EXIT_INTERRUPTED) for step in range(2, 2 + repeat)]
        show_line("first step after a resume", min(steps))


def measure_commands(small: Path, many: Path, repeat: int) -> None:
    """Print the seconds of commands on a sweep of 10 runs, and on one of many."""
    for name, arguments in {
        "--help": ["--help"],
        "sweep --help": ["sweep", "--help"],
        "status, 10 runs": ["status", str(small)],
        "logs, 10 runs": ["logs", str(small)],
        "plan, 10 runs": ["sweep", str(small / "many.yaml"), "--dry-run", "--out", str(small)],
        "plan": ["sweep", str(many / "many.yaml"), "--dry-run", "--out", str(many / "none")],
        "plan, all runs done": ["sweep", str(many / "many.yaml"), "--dry-run", "--out", str(many)],
        "status": ["status", str(many)],
        "aggregate": ["aggregate", str(many)],
    }.items():
        show(name, [*FGSSL, *arguments], repeat)
    with tempfile.TemporaryDirectory() as folder:
        fake = FakeSlurm(Path(folder) / "slurm")
        os.environ["PATH"] = f"{fake.commands}{os.pathsep}{os.environ['PATH']}"  # noqa: TID251  of the commands
        submitted = Path(folder) / "out"
        submitted.mkdir()
        for name in ("runs", "data", "plan.json"):
            (submitted / name).symlink_to((many / name).absolute())
        submit(many / "many.yaml", submitted)
        show("status, on a cluster", [*FGSSL, "status", str(submitted)], repeat)
        show("sync", [*FGSSL, "sync", str(submitted), "--no-report"], repeat)
    print(f"most files in a run folder: {max(len(list(run.iterdir())) for run in many.glob('runs/*'))}")
    print(f"{sum(len(cell.runs) for cell in read_plan(many).cells)} runs unless another number is named")


def submit(file: Path, out: Path) -> None:
    """Write the record of a sweep on a cluster, without jobs."""
    profile, problems = read_profile(Path("slurm/karolina.yaml"), ["cluster.account=OPEN-12-34"])
    assert profile is not None
    assert not problems
    planned = plan(expand(file, None, ["jobs.default.walltime_min=60"]))
    sweep = ClusterSweep(
        name="many",
        profile=profile.name,
        limits={"": profile.limits_of(None)},
        retries=planned.grid.settings.retries,
        code="code/none",
        folder=str(Path.cwd()),
        keeper=None,
        runs=tuple(on_cluster(planned, profile)),
    )
    cluster_sweep.write(sweep, out)


def measure_share(file: Path) -> None:
    """Print the share of the imports in the seconds of a sweep with two jobs."""
    imports = seconds([sys.executable, "-c", EXECUTION])
    with tempfile.TemporaryDirectory() as out:
        whole = seconds([*FGSSL, "sweep", str(file), "--preset", "demo", "--jobs", "2", "--out", out, "--no-report"])
        jobs = len(list(Path(out).glob("jobs/*/*/output.log")))
    share = f"{100 * jobs * imports / whole:.1f} % of it on imports"
    print(f"{file.name}: {whole:.0f} CPU-s, {jobs} jobs, {share}", flush=True)


def show(name: str, command: Sequence[str], repeat: int, code: int = 0) -> None:
    """Print the least seconds of a command over `repeat` processes."""
    show_line(name, min(seconds(command, code) for _ in range(repeat)))


def show_line(name: str, least: float) -> None:
    """Print one result."""
    print(f"{name:28} {least:6.2f} CPU-s", flush=True)


def seconds(command: Sequence[str], code: int = 0) -> float:
    """Run a command and return its CPU-seconds, those of its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if run.returncode != code:
        raise RuntimeError(f"{command}: {run.returncode}\n{run.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
