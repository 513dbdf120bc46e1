"""Summary of a plan and its state, which `fgssl sweep` prints before it starts anything."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from fgssl.errors import UserError
from hpc.sweeps.estimate import minutes_left
from hpc.sweeps.plan import SweepPlan, SweepRun
from hpc.sweeps.state import State, run_folder

INTERRUPTED = "INTERRUPTED"
"""Word for a pending run that has a checkpoint from which it can resume."""
LISTED_RUNS = 5
"""Most runs that one message lists."""


class LabeledRun(Protocol):
    """Run of a sweep, here or on a cluster."""

    @property
    def run(self) -> str:
        """Name of its run folder."""

    @property
    def label(self) -> str:
        """Name in messages."""


R = TypeVar("R", bound=LabeledRun)


def print_plan(plan: SweepPlan, current: Mapping[str, State], out: Path, jobs: int | None) -> None:
    """Print the number of runs of each cell by state; `jobs` is the number of runs at a time, or None on a cluster."""
    grid = plan.grid
    print(
        f"{grid.settings.name}: {grid.settings.title}" + (f" ({grid.settings.source})" if grid.settings.source else "")
    )
    at_a_time = f", {jobs} at a time" if jobs else ""
    print(f"preset {grid.preset or 'none'}, seeds {', '.join(map(str, grid.settings.seeds))}, into {out}{at_a_time}")
    width = max(len(name) for name in [*grid.stages, *(cell.name for cell in grid.cells)])

    def line(name: str, runs: Sequence[SweepRun]) -> str:
        return f"  {name:{width}}  {counted(shown_state(current[run.key], run, out) for run in runs)}"

    for stage in dict.fromkeys(run.stage for run in plan.runs if run.stage is not None):
        print(f"{line(stage, [run for run in plan.runs if run.stage == stage])}, shared")
    for cell in grid.cells:
        print(line(cell.name, [plan.of_cell[cell.name, seed] for seed in grid.settings.seeds]))
    left = sum(state is not State.DONE for state in current.values())
    minutes = minutes_left(plan, current, out, jobs or 1)
    estimate = "" if not left else f", about {minutes:.0f} minutes" if minutes is not None else ", time not known yet"
    print(f"{number_of_runs(len(plan.runs))}, {len(plan.runs) - left} done, {left} to do{estimate}", flush=True)


def counted(states: Iterable[str], order: Iterable[str] = (INTERRUPTED, *State)) -> str:
    """Return a count of states in this order, such as `3 runs: 1 pending, 2 done`."""
    counts = Counter(states)
    parts = [f"{counts[state]} {state.lower()}" for state in order if counts[state]]
    return f"{number_of_runs(counts.total())}: {', '.join(parts)}"


def number_of_runs(number: int) -> str:
    """Return `1 run`, or `2 runs`."""
    return "1 run" if number == 1 else f"{number} runs"


def listed(labels: Sequence[str]) -> str:
    """Return the labels of runs, `LISTED_RUNS` at most, after their number if there are several."""
    more = [f"and {len(labels) - LISTED_RUNS} more"] if len(labels) > LISTED_RUNS else []
    number = f"{number_of_runs(len(labels))}: " if len(labels) > 1 else ""
    return f"{number}{'; '.join([*labels[:LISTED_RUNS], *more])}"


def named_runs(runs: Sequence[R], parts: Sequence[str], sweep: str) -> list[R]:
    """Return the runs that one of `parts` names, or all runs if `parts` is empty.

    A part is the name of a run's folder or whole words of its label: `seed 1` does not name a run of seed 10. Raises
    `UserError` if one of the parts names no run of the sweep named `sweep`.
    """
    if not parts:
        return list(runs)
    found: dict[str, R] = {}
    for part in parts:
        words = re.compile(rf"(?<![\w.+-]){re.escape(part.strip())}(?![\w.+-])")
        fitting = [run for run in runs if part.strip() and (part == run.run or words.search(run.label))]
        if not fitting:
            labels = ", ".join(repr(run.label) for run in runs[:LISTED_RUNS])
            more = ", ..." if len(runs) > LISTED_RUNS else ""
            raise UserError(
                f"no run of sweep {sweep} has the whole words {part!r} in its label: labels are {labels}{more}"
            )
        found |= {run.run: run for run in fitting}
    return list(found.values())


def headline(failure: str) -> str:
    """Return the line of a traceback that names the exception, or the first line of any other text."""
    _, marker, frames = failure.rpartition("Traceback (most recent call last):\n")
    lines = [line for line in (frames if marker else failure).splitlines() if line and not line.startswith(" ")]
    return lines[0].strip() if lines else "no traceback was kept"


def duration(seconds: float) -> str:
    """Return minutes and seconds, with hours if there are any, such as `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shown_state(state: State, run: SweepRun, out: Path) -> str:
    """Return the state, or `INTERRUPTED` for a pending run that has a checkpoint."""
    begun = state is State.PENDING and any(run_folder(run, out).checkpoints.glob("step-*"))
    return INTERRUPTED if begun else state
