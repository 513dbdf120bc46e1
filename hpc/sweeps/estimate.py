"""Estimate of the time that a sweep still needs, from the runs that are done."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.sweeps.plan import SweepPlan, SweepRun
from hpc.sweeps.state import State, run_folder


def minutes_left(plan: SweepPlan, states: Mapping[str, State], out: Path, jobs: int) -> float | None:
    """Return an estimate of the minutes that the sweep still needs with `jobs` runs at a time, or None.

    Each missing run counts as the mean of the done runs of its kind. If a kind has no done run, the estimate is the
    missing runs' share of the preset's measured time, which is that of 2 cores, whatever this machine has; None if it
    was not measured.
    """
    left = [run for run in plan.runs if states[run.key] is not State.DONE]
    means = mean_wall_s([run for run in plan.runs if states[run.key] is State.DONE], out)
    if all(kind_of(run) in means for run in left):
        return sum(means[kind_of(run)] for run in left) / min(jobs, max(1, len(left))) / 60
    if plan.grid.settings.measured_minutes is None:
        return None
    return plan.grid.settings.measured_minutes * len(left) / len(plan.runs)


def mean_wall_s(done: Sequence[SweepRun], out: Path) -> dict[tuple[str, int], float]:
    """Return the mean time of the done runs of each kind, in seconds."""
    times: dict[tuple[str, int], list[float]] = {}
    for run in done:
        if (wall_s := _wall_s(run, out)) is not None:
            times.setdefault(kind_of(run), []).append(wall_s)
    return {kind: sum(values) / len(values) for kind, values in times.items()}


def kind_of(run: SweepRun) -> tuple[str, int]:
    """Return the kind of a run, its method and epochs. Runs of one kind take about the same time."""
    return run.config.method.name, run.config.training.epochs


def _wall_s(run: SweepRun, out: Path) -> float | None:
    folder = run_folder(run, out)
    times = [record.wall_s for record in (folder.trained(), folder.evaluation(run.config)) if record is not None]
    return sum(times) if times else None
