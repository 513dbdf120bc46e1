"""`fgssl cancel`."""

import shutil
from pathlib import Path

import click

from fgssl.commands.arguments import OUT, RUNS
from fgssl.errors import UserError
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.job_store import Books
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.sync import alone, cancel, views_of


@click.command()
@OUT
@RUNS
def command(out: Path, runs: tuple[str, ...]) -> None:
    """Cancel runs of a sweep on a cluster.

    OUT is the output folder of the sweep. A running job saves first if it has the time.

    RUN is a part of a run's label or name, as `fgssl status` prints it. Without RUN, all runs that are not done are
    canceled.
    """
    if shutil.which("scancel") is None:
        raise UserError("no scancel on PATH: nothing was changed; give this command on a login node of the cluster")
    sweep, books, slurm = cluster_sweep.read(out), Books(out), Slurm()
    taken = [run.run for run in chosen(sweep, runs) if not run.done(out)]
    books.cancel(taken)  # before scancel: a job that is told to stop then knows that it must not come back
    with alone(out):
        views, orders, silence = views_of(sweep, out, books, slurm)
        if silence:
            raise UserError(f"{silence}; the runs are marked as cancelled: the next `fgssl sync` takes them out")
        cancel(views, orders, taken, slurm)
    print(f"{len(taken)} runs cancelled; `fgssl retry {out}` takes that back")
