"""`fgssl cancel`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fgssl.commands.arguments import OUT, RUNS, print_next
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.sync import cancel


@click.command()
@OUT
@RUNS
def command(out: Path, runs: tuple[str, ...]) -> None:
    """Cancel runs of a sweep on a cluster.

    OUT is the output folder of the sweep. A running job saves first if it has the time.

    RUN is a run's label as `fgssl status` prints it, or some whole words of it, such as an arm or 'seed 1'. Where it
    fits several runs, they are listed on a terminal, to be confirmed. Without RUN, all runs that are not done are
    canceled.
    """
    sweep = cluster_sweep.read(out)
    fitting = [run for run in chosen(sweep, runs) if not run.done(out)]
    if len(fitting) > len(runs) > 0 and not _confirmed([run.label for run in fitting]):
        print("nothing was canceled: give more of a run's label")
        return
    taken = [run.run for run in fitting]
    cancel(out, taken)
    print(f"{len(taken)} runs canceled")
    print_next("fgssl", "retry", out, *runs, purpose="take that back")


def _confirmed(labels: Sequence[str]) -> bool:
    """Return whether the user confirms that several runs are canceled; without a terminal no one has to."""
    if not sys.stdin.isatty():
        return True
    print("\n".join(labels))
    print(f"cancel these {len(labels)} runs? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
