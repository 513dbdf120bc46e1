"""`fgssl sync`."""

import sys
import time
from pathlib import Path
from typing import Literal

import click

from fgssl.commands.arguments import OUT
from fgssl.commands.status import show
from fgssl.errors import EXIT_INTERRUPTED, LeaseError, UserError
from fgssl.report.aggregate import aggregate
from hpc.cluster import cluster_sweep
from hpc.cluster.keeper import KEEPER_PATIENCE_S
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.states import ClusterState
from hpc.cluster.sync import synchronize


@click.command()
@OUT
@click.option("--wait", is_flag=True, help="Repeat until every run is done or has failed for good.")
@click.option(
    "--until-answered",
    is_flag=True,
    help="Repeat until one pass has succeeded and the next one is scheduled. The keeper, a small job, uses this.",
)
@click.option(
    "--every", type=float, default=60.0, show_default=True, metavar="SECONDS", help="Time between two passes."
)
def command(out: Path, wait: bool, until_answered: bool, every: float) -> int:
    """Submit what is missing of a sweep, and write its table.

    OUT is the output folder of a sweep that was submitted. The command resubmits jobs that were lost and fills up the
    queue. It is safe to repeat, from any login node; no daemon runs.

    The exit code is 0 if all runs are done or on their way, and 1 if some failed for good or nothing could be done now.
    """
    if wait and until_answered:
        raise click.UsageError("--wait and --until-answered exclude each other")
    return sync(out, "over" if wait else "answered" if until_answered else "once", every)


def sync(out: Path, until: Literal["once", "answered", "over"] = "once", every_s: float = 60.0) -> int:
    """One pass, or one every so many seconds; then the table. What fails for a while ends nothing but a single pass.

    `answered` gives up in time to go back to the queue, with EXIT_INTERRUPTED.
    """
    if until != "answered":
        cluster_sweep.read(out)  # is it one?
    deadline = time.monotonic() + KEEPER_PATIENCE_S
    succeeded = False
    while True:
        if until == "answered" and time.monotonic() > deadline:
            return EXIT_INTERRUPTED
        try:
            report = synchronize(out, Slurm())
        except (UserError, OSError) as error:
            passing = succeeded or until == "answered" or isinstance(error, LeaseError)
            if until == "once" or not passing:
                raise
            print(f"{error}; again in {every_s:.0f} s", flush=True)
            time.sleep(every_s)
            continue
        succeeded = True
        for line in report.lines:
            print(line, flush=True)
        for refusal in report.refused:
            print(f"refused: {refusal}", file=sys.stderr, flush=True)
        answered = not (report.unanswered or report.no_keeper)
        if until == "once" or (not report.unanswered and report.over) or (until == "answered" and answered):
            break
        time.sleep(every_s)
    aggregate(out)
    show(report.views, out, with_done=False)
    if report.ordered:
        print(f"{report.ordered} jobs ordered")
    done = all(view.state is ClusterState.DONE for view in report.views.values())
    if done:
        print((out / "table.md").read_text())
    return 1 if report.refused or report.unanswered or (report.over and not done) else 0
