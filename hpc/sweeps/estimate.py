"""How long a sweep will still take, judged by runs that are done."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.sweeps.plan import SweepPlan, SweepRun
from hpc.sweeps.state import State, run_folder


def minutes_left(plan: SweepPlan, states: Mapping[str, State], out: Path, jobs: int) -> float | None:
    """Estimate by done runs of the same method and length; where a kind has none yet, by the preset's measured time.

    Returns None where neither is known. The measured time is that of 2 cores, whatever this machine has.
    """
    left = [run for run in plan.runs if states[run.key] is not State.DONE]
    means = mean_wall_s([run for run in plan.runs if states[run.key] is State.DONE], out)
    if all(kind_of(run) in means for run in left):
        return sum(means[kind_of(run)] for run in left) / min(jobs, max(1, len(left))) / 60
    if plan.grid.settings.measured_minutes is None:
        return None
    return plan.grid.settings.measured_minutes * len(left) / len(plan.runs)


def mean_wall_s(done: Sequence[SweepRun], out: Path) -> dict[tuple[str, int], float]:
    """Return the mean time of the runs of each kind, seconds."""
    times: dict[tuple[str, int], list[float]] = {}
    for run in done:
        if (wall_s := _wall_s(run, out)) is not None:
            times.setdefault(kind_of(run), []).append(wall_s)
    return {kind: sum(values) / len(values) for kind, values in times.items()}


def kind_of(run: SweepRun) -> tuple[str, int]:
    """Return method and length: runs of one kind take about as long as each other."""
    return run.config.method.name, run.config.training.epochs


def _wall_s(run: SweepRun, out: Path) -> float | None:
    folder = run_folder(run, out)
    times = [record.wall_s for record in (folder.trained(), folder.evaluation(run.config)) if record is not None]
    return sum(times) if times else None
