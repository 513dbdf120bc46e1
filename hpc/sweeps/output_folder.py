"""Check that a plan may replace an earlier one in its output folder."""

import contextlib
from pathlib import Path

from fgssl.errors import UserError
from fgssl.settings.fingerprints import evaluation_fingerprint, not_scientific, to_mapping
from fgssl.settings.layers import overlaps
from fgssl.store.plan import PLAN, PlannedRun, PlanRecord, read_plan
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.plan import SweepPlan, SweepRun
from hpc.sweeps.submission import any_sweep_lives

CLUSTER_SWEEP = "cluster/sweep.json"
"""Record of a sweep that was submitted to a cluster, in its output folder."""

_SHOWN = 3


def was_submitted(out: Path) -> bool:
    """Return whether the sweep in `out` was submitted to a cluster."""
    return (out / CLUSTER_SWEEP).exists()


def check_kept_plan(plan: SweepPlan, out: Path) -> None:
    """Raise a `UserError` if the table in `out` has results, and is not the one that `plan` makes.

    A table stays the same with more or fewer seeds and cells. It becomes another one if a cell has another run at the
    same seed, or is measured in another way, since its numbers would then change their meaning.
    """
    file = out / PLAN
    if not file.exists():
        return
    advice = f"give --out DIR, rename {out}, or delete {file} if its table may go (its runs are kept)"
    try:
        kept = read_plan(out)
    except UserError as error:
        raise UserError(f"{error}\nTo go on: {advice}") from None
    if not (lines := _other_table(kept, plan)) or _without_results(kept, out):
        return
    if any_sweep_lives(out):
        advice = "give --out DIR, or wait until the sweep that is at work there has ended"
    raise UserError("\n".join([f"{file}: is the plan of {lines[0]}", *lines[1:], f"To go on: {advice}"]))


def replaced_plan(plan: SweepPlan, out: Path) -> list[str]:
    """Return a warning if `plan` replaces that of another table in `out`, as `check_kept_plan` allows."""
    with contextlib.suppress(UserError):  # a plan that cannot be read is replaced where no run has begun
        if (out / PLAN).exists() and (lines := _other_table(read_plan(out), plan)):
            which, *differences = map(str.strip, lines)
            told = " ".join(filter(None, [which, "; ".join(differences)]))
            return [f"{out / PLAN}: its table is empty, so this sweep replaces it; it is the plan of {told}"]
    return []


def _other_table(kept: PlanRecord, plan: SweepPlan) -> list[str]:
    """Return which other table the kept plan makes, and the differences; empty if it makes the same table."""
    if kept.sweep != plan.grid.settings.name:
        return [f"sweep {kept.sweep!r}, not of {plan.grid.settings.name!r}"]
    differences = [
        f"  {run.label}: {difference}"
        for cell in kept.cells
        for before in cell.runs
        if (run := plan.of_cell.get((cell.cell, before.seed))) and (difference := _difference(before, run))
    ]
    more = [f"  and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
    return ["a table of other runs:", *differences[:_SHOWN], *more] if differences else []


def _without_results(kept: PlanRecord, out: Path) -> bool:
    """Return whether the kept table is empty: no cell has a trained run, and no sweep, run or submission is at work."""
    of_cells = [RunFolder.in_output(out, run.run) for cell in kept.cells for run in cell.runs]
    at_work = any(RunFolder.in_output(out, run).holder() is not None for run in kept.labels)
    busy = was_submitted(out) or at_work or any_sweep_lives(out)
    return not (busy or any(folder.trained() is not None for folder in of_cells))


def _difference(kept: PlannedRun, run: SweepRun) -> str:
    """Return the settings in which two runs differ, or "" if they are one result.

    Evaluations are compared by fingerprint, so that settings added after the kept plan make no difference.
    """
    if kept.run == run.run and evaluation_fingerprint(kept.config) == evaluation_fingerprint(run.config):
        return ""
    before, after = to_mapping(kept.config).leaves(), to_mapping(run.config).leaves()
    free = list(not_scientific(run.config))
    changes = [
        f"{key} {before.get(key)} there, {after.get(key)} now"
        for key in {**before, **after}
        if before.get(key) != after.get(key) and not overlaps(key, free)
    ]
    return "; ".join([*changes[:_SHOWN], *(["..."] if len(changes) > _SHOWN else [])]) or f"{kept.run}, now {run.run}"
