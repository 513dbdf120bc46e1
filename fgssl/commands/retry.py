"""`fgssl retry`."""

import sys
from pathlib import Path

import click

from fgssl.commands.arguments import OUT, RUNS
from fgssl.commands.sync import sync
from fgssl.errors import UserError
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.job_store import Books
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.states import LIVE, ClusterState
from hpc.cluster.sync import alone, views_of


@click.command()
@OUT
@RUNS
def command(out: Path, runs: tuple[str, ...]) -> int:
    """Submit failed or canceled runs of a sweep again.

    OUT is the output folder of a sweep that was submitted. Jobs run the code that was submitted: after you change it,
    repeat the command of the submission, then this one.

    RUN is a part of a run's label or name, as `fgssl status` prints it. Without RUN, all runs are retried that ended
    without being done.
    """
    sweep, books = cluster_sweep.read(out), Books(out)
    with alone(out):
        views, _, silence = views_of(sweep, out, books, Slurm())
        if silence:
            raise UserError(f"{silence}; nothing was changed: give the same command again")
        wanted = [views[run.run] for run in chosen(sweep, runs)]
        alive = [view for view in wanted if view.state in LIVE]
        books.retry([view.run.run for view in wanted if view.state not in {*LIVE, ClusterState.DONE}])
    for view in alive:
        print(f"{view.run.label}: left alone, its job {view.job_id} is {view.state.lower()}", file=sys.stderr)
    status = sync(out)
    return 1 if runs and alive else status
