"""`fgssl logs`."""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from fgssl.commands.arguments import OUT, RUNS
from fgssl.store.run_folder import RunFolder
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.job_store import Books, Order
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.states import LIVE, ClusterState
from hpc.cluster.sync import views_of


@click.command()
@OUT
@RUNS
@click.option("--lines", type=int, default=40, show_default=True, help="Lines to print from the end of each log.")
def command(out: Path, runs: tuple[str, ...], lines: int) -> None:
    """Print why runs of a sweep failed, and the ends of their logs.

    OUT is the output folder of a sweep that was submitted. The process that failed first comes first.

    RUN is a part of a run's label or name, as `fgssl status` prints it. Without RUN, all runs are printed that ended
    without being done.
    """
    sweep, books = cluster_sweep.read(out), Books(out)
    views, orders, _ = views_of(sweep, out, books, Slurm())
    for run in chosen(sweep, runs):
        view = views[run.run]
        if not runs and view.state in {*LIVE, ClusterState.DONE, ClusterState.WAITING}:
            continue
        print(f"==== {run.label} ({view.state}): {out / 'runs' / run.run}")
        if failure := RunFolder(out / "runs" / run.run).failure():
            print(failure.rstrip())
        for whose, log in _logs(run.run, books, orders):
            print(f"---- {whose}, the end of {log}")
            with log.open(errors="replace") as file:
                print("".join(deque(file, lines)).rstrip())


def _logs(run: str, books: Books, orders: Iterable[Order]) -> Iterator[tuple[str, Path]]:
    """Of the jobs that were ordered for a run, as far as they began, each with words for whose it is."""
    for order in orders:
        for number, element in enumerate(order.elements):
            log = books.log(order.token, number)
            if run in element.runs and log.exists():
                attempt = element.attempts[element.runs.index(run)]
                job = order.job_id_of(number) or "without a number"
                shared = f", shared by {len(element.runs)} runs" if order.packed else ""
                yield f"attempt {attempt}: job {job} of order {order.token}{shared}", log
