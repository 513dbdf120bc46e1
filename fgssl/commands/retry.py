"""`fgssl retry`."""

import sys
from pathlib import Path

import click

from fgssl.commands.arguments import OUT, RUNS
from fgssl.commands.sync import sync
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.sync import retry


@click.command()
@OUT
@RUNS
@click.option(
    "--take-over",
    is_flag=True,
    help="Submit here, as you, what another user or another cluster left of the sweep. Their jobs that still run stop "
    "when yours start.",
)
def command(out: Path, runs: tuple[str, ...], take_over: bool) -> int:
    """Submit failed or canceled runs of a sweep again.

    OUT is the output folder of a sweep that was submitted. Jobs run the code that was submitted: after you change it,
    repeat the command of the submission, then this one.

    RUN is a run's label as `fgssl status` prints it, or some whole words of it, such as an arm or 'seed 1'.
    Without RUN, all runs are retried that ended without being done.
    """
    if take_over and runs:
        raise click.UsageError("--take-over takes the whole sweep: leave out RUN")
    wanted = [run.run for run in chosen(cluster_sweep.read(out), runs)]
    alive = retry(out, wanted, take_over)
    for status in alive:
        print(f"{status.run.label}: left alone, its job {status.job_id} is {status.state.lower()}", file=sys.stderr)
    exit_code = sync(out)
    return 1 if runs and alive else exit_code
