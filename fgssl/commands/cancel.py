"""`fgssl cancel`."""

import shutil
from pathlib import Path

import click

from fgssl.commands.arguments import OUT, RUNS
from fgssl.errors import UserError
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.job_store import JobStore
from hpc.cluster.schedulers import build_scheduler
from hpc.cluster.sync import cancel


@click.command()
@OUT
@RUNS
def command(out: Path, runs: tuple[str, ...]) -> None:
    """Cancel runs of a sweep on a cluster.

    OUT is the output folder of the sweep. A running job saves first if it has the time.

    RUN is a part of a run's label or name, as `fgssl status` prints it. Without RUN, all runs that are not done are
    canceled.
    """
    sweep = cluster_sweep.read(out)
    program = build_scheduler(sweep.scheduler).cancel_command
    if shutil.which(program) is None:
        raise UserError(f"no {program} on PATH: nothing was changed; give this command on a login node of the cluster")
    taken = [run.run for run in chosen(sweep, runs) if not run.done(out)]
    JobStore(out).cancel(taken)  # first, so that a job that is told to stop knows that it must not come back
    cancel(out, taken)
    print(f"{len(taken)} runs canceled; `fgssl retry {out}` takes that back")
