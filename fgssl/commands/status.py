"""`fgssl status`."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fgssl.commands.arguments import OUT
from fgssl.store.run_folder import RunFolder
from hpc.cluster import cluster_sweep
from hpc.cluster.job_store import Books
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.states import ClusterState, View
from hpc.cluster.sync import views_of
from hpc.local.display import duration

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
    sweep = cluster_sweep.read(out)
    views, _, silence = views_of(sweep, out, Books(out), Slurm())
    show(views, out, with_done=done)
    if silence:
        print(f"WARNING: {silence}; the states are the last known ones", file=sys.stderr)


def show(views: Mapping[str, View], out: Path, with_done: bool) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("run", "state", "job", "attempt", "node", "step", "ETA", ""):
        table.add_column(column, justify="right" if column in ("attempt", "step", "ETA") else "left", no_wrap=True)
    for view in views.values():
        if with_done or view.state is not ClusterState.DONE:
            step, eta = _progress(view, out)
            state = Text(view.state, style=_COLORS.get(view.state, ""))
            attempt = str(view.attempt) if view.attempt else ""
            table.add_row(view.run.label, state, view.job_id or "", attempt, view.nodes, step, eta, view.reason)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    if table.row_count:
        console.print(table)
    console.print(counted(view.state for view in views.values()), highlight=False)


def counted(states: Iterable[ClusterState]) -> str:
    """E.g. `3 runs: 1 pending, 2 done`."""
    counts = Counter(states)
    parts = [f"{counts[state]} {state.lower()}" for state in ClusterState if counts[state]]
    return f"{counts.total()} runs: {', '.join(parts)}"


def _progress(view: View, out: Path) -> tuple[str, str]:
    progress = RunFolder(out / "runs" / view.run.run).progress()
    if progress is None or view.state is ClusterState.DONE:
        return "", ""
    step, total, rate = progress.step, progress.total_steps, progress.images_per_s
    batch = view.run.configs[0]["training"]["global_batch_size"]
    at_work = view.state is ClusterState.RUNNING and rate > 0
    return f"{step}/{total}", duration((total - step) * batch / rate) if at_work else ""
