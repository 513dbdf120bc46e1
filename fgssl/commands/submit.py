"""A planned sweep -> jobs of a cluster: what `fgssl sweep --cluster` does."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fgssl.commands.sync import sync
from fgssl.errors import Problem, SettingsError, UserError
from fgssl.store.files import write_atomically
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import ClusterRun, ClusterSweep, on_cluster
from hpc.cluster.job_store import Books
from hpc.cluster.keeper import keeper_request
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.site.costs import Forecast, forecast
from hpc.cluster.site.estimate import work_of
from hpc.cluster.site.job_settings import DEFAULT
from hpc.cluster.site.profile import Profile
from hpc.cluster.site.requests import described
from hpc.cluster.sync import batches_left, scripts
from hpc.sweeps.output_folder import check_kept_plan
from hpc.sweeps.plan_inputs import draw_inputs, input_problems
from hpc.sweeps.snapshot import freeze, packages
from hpc.sweeps.stages import Plan

_POLL_S = 30.0


def submit(plan: Plan, profile: Profile, faults: Sequence[Problem], out: Path, dry_run: bool, wait: bool) -> int:
    """Order what is missing; 0: all is in the queue, or done.

    Raises one `UserError` with all that stands in the way; `faults` are those of the profile and the command line.
    """
    hindrances = list(_hindrances(plan, out, dry_run))
    try:
        runs = on_cluster(plan, profile)
    except SettingsError as error:
        told = dict.fromkeys([*faults, *error.problems])
        raise UserError("\n".join([*map(str, told), *hindrances])) from None
    keeper, why_none = keeper_request(plan.grid.name, out, profile)
    sweep = ClusterSweep(
        name=plan.grid.name,
        keeper=keeper,
        profile=profile.name,
        limits={run.request.partition or "": profile.limits_of(run.request.partition) for run in runs},
        retries=plan.grid.retries,
        code=str(out.absolute() / "code" / "frozen-at-submission"),
        folder=str(Path.cwd()),
        runs=tuple(runs),
    )
    batches = batches_left(sweep, out)
    foreseen = forecast(work_of(batches, plan, out), profile)
    if problems := [*map(str, [*faults, *foreseen.problems]), *hindrances]:
        raise UserError("\n".join(problems))
    _show(plan, runs, foreseen, why_none)
    if dry_run:
        for script in scripts(sweep, batches, out, Slurm()):
            print(f"\n{script}")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    books = Books(out)
    books.make()
    draw_inputs(plan.stages, out)
    write_atomically(out / "plan.json", json.dumps(plan.record(), indent=1) + "\n")
    code = freeze(packages(), out.absolute() / "code")
    cluster_sweep.write(cluster_sweep.with_code(sweep, code), out)
    try:
        status = sync(out, "over" if wait else "once", _POLL_S)
    except KeyboardInterrupt:
        _show_what_next(runs, books, out, well=True)
        raise
    _show_what_next(runs, books, out, well=status == 0)
    return status


def _hindrances(plan: Plan, out: Path, dry_run: bool) -> Iterator[str]:
    """All but what the site says."""
    if _began(out):
        try:
            check_kept_plan(plan, out)
        except UserError as error:
            yield str(error)
    yield from input_problems(plan.stages, out, None)
    if dry_run:
        return
    if shutil.which("sbatch") is None:
        yield "no sbatch on PATH: submit from a login node, or leave --cluster out to run on this machine"
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        why = "is on a read-only file system"
    elif not os.access(there, os.W_OK | os.X_OK):
        why = "is not a folder that you may write to"
    else:
        return
    yield f"--out {out}: {there} {why}: choose another --out, which jobs can write to as well"


def _began(out: Path) -> bool:
    """Whether any run of the folder has begun or was ordered; if not, its plan may go."""
    return (out / "runs").exists() or any(not order.void for order in Books(out).orders())


def _show(plan: Plan, runs: Sequence[ClusterRun], foreseen: Forecast, why_no_keeper: str) -> None:
    """What each kind of job asks for, what it costs and what people should know."""
    arms = {plan.runs[point.cell, seed].run: point.arm for point in plan.grid.points for seed in plan.grid.seeds}
    kinds = {stage.run: stage.kind for stage in plan.stages}
    alike: dict[str, dict[str, None]] = {}
    for run in runs:
        name = arms.get(run.run, kinds[run.run])
        given = {*(plan.grid.jobs.get(DEFAULT) or {}), *(plan.grid.jobs.get(name) or {})}
        alike.setdefault(described(run.request, given), {})[name] = None
    print(f"  each job asks for (jobs.{DEFAULT}.KEY=VALUE changes it, jobs.NAME.KEY=VALUE of these runs alone)")
    for text, names in alike.items():
        print(f"    {', '.join(names)}: {text}")
    for note in foreseen.notes:
        print(f"  {note}")
    if why_no_keeper:
        print(f"  no keeper will go on by itself: {why_no_keeper}; run `fgssl sync` now and then")
    sys.stdout.flush()


def _show_what_next(runs: Sequence[ClusterRun], books: Books, out: Path, well: bool) -> None:
    """What became of this command, and what to do now."""
    taken = [order for order in books.orders() if order.job_id is not None]
    with_job = {run for order in taken for element in order.elements for run in element.runs}
    left = sum(run.run not in with_job and not run.done(out) for run in runs)
    if left and well:
        print(f"{left} runs were not submitted yet: the next sync, or the same command again, goes on with them")
    elif left:
        number = f"{len(with_job)} runs were submitted, {left} were not" if taken else "nothing was submitted"
        print(f"{number}: mend what is said above, then give the same command again; it goes on from here")
    print(f"Where it stands:       fgssl status {out}")
    if well or taken:
        print(f"To go on, and a table: fgssl sync {out}")
