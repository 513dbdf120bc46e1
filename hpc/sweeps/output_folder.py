"""Check that a plan may replace an earlier one in its output folder."""

from pathlib import Path

from fgssl.errors import UserError
from fgssl.settings.fingerprints import evaluation_fingerprint, not_scientific, to_mapping
from fgssl.settings.layers import overlaps
from fgssl.store.plan import PLAN, PlannedRun, read_plan
from hpc.sweeps.plan import SweepPlan, SweepRun

CLUSTER_SWEEP = "cluster/sweep.json"
"""Record of a sweep that was submitted to a cluster, in its output folder."""

_SHOWN = 3


def check_kept_plan(plan: SweepPlan, out: Path) -> None:
    """Raise a `UserError` if the table in `out` is not the one that `plan` makes.

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
    if kept.sweep != plan.grid.settings.name:
        raise UserError(f"{file}: is the plan of sweep {kept.sweep!r}, not of {plan.grid.settings.name!r}: {advice}")
    differences = [
        f"  {run.label}: {difference}"
        for cell in kept.cells
        for before in cell.runs
        if (run := plan.of_cell.get((cell.cell, before.seed))) and (difference := _difference(before, run))
    ]
    if differences:
        more = [f"  and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
        lines = "\n".join([*differences[:_SHOWN], *more])
        raise UserError(f"{file}: is the plan of a table of other runs:\n{lines}\nTo go on: {advice}")


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
