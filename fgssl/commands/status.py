"""`fgssl status`."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgssl.commands.arguments import OUT, print_next, print_sweep_again
from fgssl.store.plan import PlanRecord, read_plan
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.output_folder import was_submitted
from hpc.sweeps.overview import INTERRUPTED, counted, duration, headline, listed, shown_state
from hpc.sweeps.plan import SweepRun, recorded_runs
from hpc.sweeps.state import State, run_folder, states
from hpc.sweeps.submission import any_sweep_lives

if TYPE_CHECKING:
    from hpc.cluster.status import RunStatus

_WIDTH_OF_A_FILE = 240
_PADDING, _LEAST_ROOM = 2, 24
_COLUMNS = ("run", "state", "job", "submission", "node", "step", "ETA", "")
_LOCAL_COLUMNS = ("run", "state", "step", "ETA", "")
_COLORS = {
    **{"DONE": "green", "RUNNING": "cyan", "HELD": "yellow", "SKIPPED": "yellow", INTERRUPTED: "yellow"},
    **dict.fromkeys(("FAILED", "OOM", "LOST"), "red"),
}


@dataclass(frozen=True)
class _LocalRun:
    """A run of a sweep on this machine, as it is shown."""

    run: SweepRun
    state: str
    reason: str
    """Explanation of the state; empty if there is nothing to add."""


@click.command()
@OUT
@click.option("--done", is_flag=True, help="Also list the runs that are done.")
def command(out: Path, done: bool) -> None:
    """Show the runs that are not done, and the number in each state.

    OUT is the output folder of a sweep that was submitted to a cluster, or started on this machine from this or any
    other shell. The command changes nothing.

    The exit code is 0 whatever the states are, and 2 if OUT holds no sweep.
    """
    if was_submitted(out):
        from hpc.cluster.sync import observe_sweep  # imported here so that local runs do not load the cluster's modules

        seen = observe_sweep(out)
        show(seen.runs, out, with_done=done)
        if seen.silence:
            print(f"WARNING: {seen.silence}; the states are the last known ones", file=sys.stderr)
        suggest(seen.runs, out, ("sync", "submit what is missing"))
    else:
        plan = read_plan(out)
        _show_local(_local_runs(plan, out), plan, out, with_done=done)


# -------------------------------------------------------------------------------------- on a cluster


def show(runs: "Mapping[str, RunStatus]", out: Path, with_done: bool) -> None:
    """Print the table of a sweep on a cluster, and the number of runs in each state."""
    from hpc.cluster.status import ClusterState

    lines = []
    for status in runs.values():
        if with_done or status.state is not ClusterState.DONE:
            folder, batch = RunFolder.in_output(out, status.run.run), status.run.configs[0]["training"]
            step, eta = _progress(folder, batch["global_batch_size"], status.state)
            submission = str(status.submission) if status.submission else ""
            job = (status.job_id or "", submission, status.nodes)
            lines.append((status.run.label, status.state, *job, step, eta, status.reason))
    _print_table(_COLUMNS, lines, counted((status.state for status in runs.values()), ClusterState))


def suggest(runs: "Mapping[str, RunStatus]", out: Path, otherwise: tuple[str, str]) -> None:
    """Print the next command for a sweep on a cluster.

    `otherwise` is the command, and its purpose, while there are runs left that are not over.
    """
    from hpc.cluster.status import ClusterState

    over = not any(run.live or run.to_submit or run.undecided for run in runs.values())
    name, purpose = otherwise
    if all(run.state is ClusterState.DONE for run in runs.values()):
        name, purpose = "aggregate", f"write {out / 'table.md'}"
    elif over:
        name, purpose = "logs", "show why runs failed; `fgssl retry` submits them again"
    print_next("fgssl", name, out, purpose=purpose)


# ----------------------------------------------------------------------------------- on this machine


def _local_runs(plan: PlanRecord, out: Path) -> list[_LocalRun]:
    runs = recorded_runs(plan)
    found = states(runs, out)
    labels = {run.run: run.label for run in runs}
    shown = []
    for run in runs:
        state, folder, reason = found[run.key], run_folder(run, out), ""
        if state is State.FAILED:
            reason = headline(folder.failure() or "")
        elif state in (State.WAITING, State.SKIPPED):
            lacking = [need for need in run.needs if RunFolder.in_output(out, need).trained() is None]
            reason = f"needs {' and '.join(labels.get(need, need) for need in lacking)}"
        elif state is State.RUNNING:
            progress = folder.progress()
            if progress is None or folder.trained() is not None or progress.step >= progress.total_steps:
                reason = "starting" if progress is None else "evaluating"
        shown.append(_LocalRun(run, shown_state(state, run, out), reason))
    return shown


def _show_local(runs: Iterable[_LocalRun], plan: PlanRecord, out: Path, with_done: bool) -> None:
    runs = list(runs)
    lines = []
    for shown in runs:
        if with_done or shown.state != State.DONE:
            batch = shown.run.config.training.global_batch_size
            progress = _progress(run_folder(shown.run, out), batch, shown.state)
            lines.append((shown.run.label, shown.state, *progress, shown.reason))
    _print_table(_LOCAL_COLUMNS, lines, counted(shown.state for shown in runs))
    if any_sweep_lives(out) or all(shown.state in (State.RUNNING, State.DONE) for shown in runs):
        print_next("fgssl", "aggregate", out, purpose=f"write {out / 'table.md'} from the runs that are done")
    else:
        print_sweep_again(plan.preset, out, purpose="go on with the same sweep and settings")


# ---------------------------------------------------------------------------------------------- both


def _progress(folder: RunFolder, batch: int, state: str) -> tuple[str, str]:
    """Return `step/all steps` of a run that is not done, and the time that a running one needs for the rest."""
    progress = folder.progress()
    if progress is None or state == "DONE":
        return "", ""
    step, total, rate = progress.step, progress.total_steps, progress.images_per_s
    at_work = state == "RUNNING" and rate > 0
    return f"{step}/{total}", duration((total - step) * batch / rate) if at_work else ""


def _print_table(columns: Sequence[str], lines: Sequence[tuple[str, ...]], summary: str) -> None:
    """Print a table whose last column, the reasons, takes the room that the others leave, and then all long reasons."""
    from rich.console import Console  # takes a tenth of a second, which other commands need not spend
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    fixed = sum(
        max(map(len, texts)) + _PADDING for texts in zip(columns[:-1], *(line[:-1] for line in lines), strict=True)
    )
    room = max(_LEAST_ROOM, console.width - fixed - _PADDING)
    console.width = fixed + room + _PADDING  # a narrow terminal wraps the lines, and nothing is left out
    table = Table(box=None, padding=(0, _PADDING, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in ("submission", "step", "ETA") else "left", no_wrap=True)
    long: dict[str, list[str]] = {}
    for label, state, *others, reason in lines:
        short = reason if len(reason) <= room else f"{reason[: room - 3]}..."
        table.add_row(Text(label), Text(state, style=_COLORS.get(state, "")), *map(Text, others), Text(short))
        if short != reason:
            long.setdefault(reason, []).append(label)
    if table.row_count:
        console.print(table)
    for reason, labels in long.items():
        console.print(f"{listed(labels)}:\n  {reason}", highlight=False, markup=False, soft_wrap=True)
    console.print(summary, highlight=False)
