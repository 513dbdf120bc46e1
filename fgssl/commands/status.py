"""`fgssl status`."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from fgssl.commands.arguments import OUT
from fgssl.store.run_folder import RunFolder
from hpc.cluster.status import ClusterState, RunStatus
from hpc.cluster.sync import observe_sweep
from hpc.sweeps.overview import counted, duration

_WIDTH_OF_A_FILE = 240
_COLORS = {
    ClusterState.DONE: "green",
    ClusterState.RUNNING: "cyan",
    ClusterState.FAILED: "red",
    ClusterState.OOM: "red",
    ClusterState.LOST: "red",
    ClusterState.HELD: "yellow",
}


@click.command()
@OUT
@click.option("--done", is_flag=True, help="Show the runs that are done too.")
def command(out: Path, done: bool) -> None:
    """Show the state of every run of a sweep on a cluster.

    OUT is the output folder of a sweep that was submitted. The command changes nothing.
    """
    seen = observe_sweep(out)
    show(seen.runs, out, with_done=done)
    if seen.silence:
        print(f"WARNING: {seen.silence}; the states are the last known ones", file=sys.stderr)


def show(runs: Mapping[str, RunStatus], out: Path, with_done: bool) -> None:
    from rich.console import Console  # takes a tenth of a second, which other commands need not spend
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("run", "state", "job", "submission", "node", "step", "ETA", ""):
        table.add_column(column, justify="right" if column in ("submission", "step", "ETA") else "left", no_wrap=True)
    for status in runs.values():
        if with_done or status.state is not ClusterState.DONE:
            step, eta = _progress(status, out)
            state = Text(status.state, style=_COLORS.get(status.state, ""))
            submission = str(status.submission) if status.submission else ""
            table.add_row(
                status.run.label, state, status.job_id or "", submission, status.nodes, step, eta, status.reason
            )
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    if table.row_count:
        console.print(table)
    console.print(counted((status.state for status in runs.values()), ClusterState), highlight=False)


def _progress(status: RunStatus, out: Path) -> tuple[str, str]:
    progress = RunFolder.in_output(out, status.run.run).progress()
    if progress is None or status.state is ClusterState.DONE:
        return "", ""
    step, total, rate = progress.step, progress.total_steps, progress.images_per_s
    batch = status.run.configs[0]["training"]["global_batch_size"]
    at_work = status.state is ClusterState.RUNNING and rate > 0
    return f"{step}/{total}", duration((total - step) * batch / rate) if at_work else ""
