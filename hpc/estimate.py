"""How long a sweep will still take."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc.stages import Plan, Stage
from hpc.state import State, run_folder


def minutes_left(plan: Plan, states: Mapping[str, State], out: Path, jobs: int) -> float | None:
    """From finished runs of the same method and length; where a kind has none yet, from the preset's measured time.

    None where neither is known. The measured time is that of 2 cores, whatever this machine has.
    """
    left = [stage for stage in plan.stages if states[stage.key] is not State.DONE]
    times: dict[tuple[str, int], list[float]] = {}
    for stage in plan.stages:
        if states[stage.key] is State.DONE and (wall_s := _wall_s(stage, out)) is not None:
            times.setdefault(_kind(stage), []).append(wall_s)
    means = {kind: sum(values) / len(values) for kind, values in times.items()}
    if all(_kind(stage) in means for stage in left):
        return sum(means[_kind(stage)] for stage in left) / min(jobs, max(1, len(left))) / 60
    if plan.grid.measured_minutes is None:
        return None
    return plan.grid.measured_minutes * len(left) / len(plan.stages)


def _kind(stage: Stage) -> tuple[str, int]:
    return stage.config.method.name, stage.config.training.epochs


def _wall_s(stage: Stage, out: Path) -> float | None:
    folder = run_folder(stage, out)
    records: Sequence[dict[str, float]] = [folder.trained() or {}, folder.evaluation(stage.config) or {}]
    times = [record["wall_s"] for record in records if "wall_s" in record]
    return sum(times) if times else None
