"""`fgssl sync`."""

import sys
from pathlib import Path

import click

from fgssl.commands.arguments import OUT, REPORT, write_report
from fgssl.commands.status import show, suggest
from fgssl.errors import EXIT_INTERRUPTED
from fgssl.progress import shown
from fgssl.report.aggregate import aggregate
from hpc.cluster.status import ClusterState
from hpc.cluster.sync import Report, Until, follow


@click.command()
@OUT
@click.option("--wait", is_flag=True, help="Repeat until every run is done or has failed for good.")
@click.option(
    "--until-answered",
    is_flag=True,
    help="Repeat until one pass has succeeded and the next one is scheduled. The keeper, a small job, uses this.",
)
@click.option(
    "--every",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two passes.",
)
@REPORT
def command(out: Path, wait: bool, until_answered: bool, every: float, with_report: bool) -> int:
    """Submit the missing runs of a sweep, and write its table.

    OUT is the output folder of a sweep that was submitted. Once all runs are done, the command
    writes the page of `fgssl report` too. It resubmits jobs that were lost and fills up the
    queue. It is safe to repeat, from any login node; no daemon runs.

    The exit code is 1 if a job was refused, the scheduler did not answer, or no run is left in progress and some failed
    for good. It is 0 otherwise, even while jobs wait for room in the queue.
    """
    if wait and until_answered:
        raise click.UsageError("--wait and --until-answered exclude each other")
    until: Until = "over" if wait else "answered" if until_answered else "once"
    return sync(out, until, every, with_report and not until_answered)


def sync(out: Path, until: Until = "once", every_s: float = 60.0, with_report: bool = False) -> int:
    """Make one pass over a sweep or several, print each, write the table at the end, and return the exit code.

    `with_report` adds the report if all runs are done.
    """

    def show_pass(outcome: Report | Exception) -> None:
        if isinstance(outcome, Exception):
            print(f"{outcome}; again in {every_s:.0f} s", file=sys.stderr, flush=True)
            return
        for line in outcome.progress.lines:
            print(line, flush=True)
        for refusal in outcome.progress.refused:
            print(f"refused: {refusal}", file=sys.stderr, flush=True)

    report = follow(out, until, every_s, show_pass)
    if report is None:
        return EXIT_INTERRUPTED
    aggregate(out, shown)
    show(report.runs, out, with_done=False)
    if report.progress.ordered:
        print(f"{report.progress.ordered} jobs ordered")
    done = all(status.state is ClusterState.DONE for status in report.runs.values())
    if done:
        print((out / "table.md").read_text(encoding="utf-8"))
        if with_report:
            write_report(out)
    if until != "answered":
        suggest(report.runs, out, ("status", "show the state of each run"))
    return 1 if report.progress.refused or report.silent or (report.over and not done) else 0
