"""`fgssl retry OUT [RUN ...]`: forget how runs of a sweep ended, and order them anew.

Jobs run the code that was submitted: after mending it, give the command of the submission again, then this one.

RUN is a part of a run's label or name, as `fgssl status` shows it; none: all that ended without being done.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fgssl.commands.sync import sync
from fgssl.errors import UserError, exit_code
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.job_store import Books
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.states import LIVE, ClusterState
from hpc.cluster.sync import alone, views_of


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="fgssl retry", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a sweep that was submitted")
    parser.add_argument("runs", nargs="*", metavar="RUN")
    given = parser.parse_args(arguments)
    sweep, books = cluster_sweep.read(given.out), Books(given.out)
    with alone(given.out):
        views, _, silence = views_of(sweep, given.out, books, Slurm())
        if silence:
            raise UserError(f"{silence}; nothing was changed: give the same command again")
        wanted = [views[run.run] for run in chosen(sweep, given.runs)]
        alive = [view for view in wanted if view.state in LIVE]
        books.retry([view.run.run for view in wanted if view.state not in {*LIVE, ClusterState.DONE}])
    for view in alive:
        print(f"{view.run.label}: left alone, its job {view.job_id} is {view.state.lower()}", file=sys.stderr)
    status = sync(given.out)
    return 1 if given.runs and alive else status


if __name__ == "__main__":
    sys.exit(exit_code(main))
