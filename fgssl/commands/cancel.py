"""`fgssl cancel OUT [RUN ...]`: take runs of a sweep out of the queue; what runs saves and leaves.

RUN is a part of a run's label or name, as `fgssl status` shows it; none: all that is not done.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from fgssl.errors import UserError, exit_code
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.job_store import Books
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.sync import alone, cancel, views_of


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="fgssl cancel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a sweep that was submitted")
    parser.add_argument("runs", nargs="*", metavar="RUN")
    given = parser.parse_args(arguments)
    if shutil.which("scancel") is None:
        raise UserError("no scancel on PATH: nothing was changed; give this command on a login node of the cluster")
    sweep, books, slurm = cluster_sweep.read(given.out), Books(given.out), Slurm()
    taken = [run.run for run in chosen(sweep, given.runs) if not run.done(given.out)]
    books.cancel(taken)  # before scancel: a job that is told to stop then knows that it must not come back
    with alone(given.out):
        views, orders, silence = views_of(sweep, given.out, books, slurm)
        if silence:
            raise UserError(f"{silence}; the runs are marked as cancelled: the next `fgssl sync` takes them out")
        cancel(views, orders, taken, slurm)
    print(f"{len(taken)} runs cancelled; `fgssl retry {given.out}` takes that back")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
