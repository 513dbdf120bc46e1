"""`fgssl logs OUT [RUN ...]`: why runs of a sweep failed, the first failing process first, and their logs.

RUN is a part of a run's label or name, as `fgssl status` shows it; none: all that ended without being done.
"""

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fgssl.errors import exit_code
from fgssl.store.run_folder import RunFolder
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.job_store import Books, Order
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.states import LIVE, ClusterState
from hpc.cluster.sync import views_of


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="fgssl logs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a sweep that was submitted")
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--lines", type=int, default=40, help="of the end of each log")
    given = parser.parse_args(arguments)
    sweep, books = cluster_sweep.read(given.out), Books(given.out)
    views, orders, _ = views_of(sweep, given.out, books, Slurm())
    for run in chosen(sweep, given.runs):
        view = views[run.run]
        if not given.runs and view.state in {*LIVE, ClusterState.DONE, ClusterState.WAITING}:
            continue
        print(f"==== {run.label} ({view.state}): {given.out / 'runs' / run.run}")
        if failure := RunFolder(given.out / "runs" / run.run).failure():
            print(failure.rstrip())
        for whose, log in _logs(run.run, books, orders):
            print(f"---- {whose}, the end of {log}")
            with log.open(errors="replace") as file:
                print("".join(deque(file, given.lines)).rstrip())
    return 0


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


if __name__ == "__main__":
    sys.exit(exit_code(main))
