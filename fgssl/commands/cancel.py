"""`fgssl cancel`."""

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

    RUN is a part of a run's label or name, as `fgssl status` prints it. Without RUN, all runs that are not done are
    canceled.
    """
    sweep = cluster_sweep.read(out)
    taken = [run.run for run in chosen(sweep, runs) if not run.done(out)]
    cancel(out, taken)
    print(f"{len(taken)} runs canceled")
    print_next("fgssl", "retry", out, *runs, purpose="take that back")
