"""Submit a planned sweep to a cluster (`fgssl sweep --cluster`)."""

import dataclasses
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from fgssl.errors import Problem, SettingsError, UserError
from fgssl.store.files import record_json, write_atomically
from fgssl.store.plan import PLAN
from hpc.cluster import cluster_sweep
from hpc.cluster.actions import PlannedOrder
from hpc.cluster.cluster_sweep import ClusterRun, ClusterSweep, job_blocks, on_cluster
from hpc.cluster.decide import planned_orders
from hpc.cluster.job_scripts import order_script
from hpc.cluster.job_store import JobStore, new_order
from hpc.cluster.keeper import keeper_request
from hpc.cluster.observe import observe_empty_queue
from hpc.cluster.schedulers import build_scheduler
from hpc.cluster.schedulers.scheduler import Scheduler, SchedulerUnavailableError
from hpc.cluster.site.costs import Forecast, forecast, work_of
from hpc.cluster.site.job_settings import DEFAULT
from hpc.cluster.site.profile import Profile
from hpc.cluster.site.requests import described
from hpc.cluster.sync import alone
from hpc.sweeps.output_folder import check_kept_plan, was_submitted
from hpc.sweeps.plan import SweepPlan
from hpc.sweeps.plan_inputs import draw_inputs, input_problems, warn_of_inputs
from hpc.sweeps.snapshot import freeze, packages
from hpc.sweeps.start_weights import start_weight_problems
from hpc.sweeps.submission import any_sweep_lives


def submit(
    plan: SweepPlan, profile: Profile, faults: Sequence[Problem], out: Path, follow: Callable[[], int] | None
) -> int:
    """Write the sweep into `out`, call `follow` to submit its jobs, and return its exit code.

    Without `follow`, print the batch scripts and write nothing. `faults` are problems of the profile and the command
    line. Raises one `UserError` with all problems.
    """
    hindrances = list(_hindrances(plan, profile, out, dry_run=follow is None))
    try:
        runs = on_cluster(plan, profile)
    except SettingsError as error:
        told = dict.fromkeys([*faults, *error.problems])
        raise UserError("\n".join([*map(str, told), *hindrances])) from None
    sweep, why_no_keeper = _cluster_sweep(plan, profile, runs, out)
    orders = orders_left(sweep, out)
    foreseen = forecast(work_of(orders, plan, out), profile)
    if problems := [*map(str, [*faults, *foreseen.problems]), *hindrances]:
        raise UserError("\n".join(problems))
    warn_of_inputs(plan, out)
    _show(plan, runs, foreseen, why_no_keeper)
    if follow is None:
        for script in _scripts(sweep, orders, out):
            print(f"\n{script}")
        return 0
    store = _write(plan, sweep, out)
    try:
        status = follow()
    except KeyboardInterrupt:
        _show_what_next(runs, store, out, well=True)
        raise
    _show_what_next(runs, store, out, well=status == 0)
    return status


def orders_left(sweep: ClusterSweep, out: Path) -> list[PlannedOrder]:
    """Return all orders that the sweep still needs, as if the queue were empty and unlimited."""
    endless = {name: dataclasses.replace(limits, submitted=None) for name, limits in sweep.limits.items()}
    return list(planned_orders(observe_empty_queue(sweep, out).runs, endless))


def _cluster_sweep(
    plan: SweepPlan, profile: Profile, runs: Sequence[ClusterRun], out: Path
) -> tuple[ClusterSweep, str]:
    """Return the sweep as it will be written, and the reason why it has no keeper (empty if it has one)."""
    keeper, why_none = keeper_request(plan.grid.settings.name, out, profile)
    sweep = ClusterSweep(
        name=plan.grid.settings.name,
        keeper=keeper,
        profile=profile.name,
        scheduler=profile.scheduler,
        limits={run.request.partition or "": profile.limits_of(run.request.partition) for run in runs},
        retries=plan.grid.settings.retries,
        code="code/frozen-at-submission",
        folder=str(Path.cwd()),
        runs=tuple(runs),
    )
    return sweep, why_none


def _scripts(sweep: ClusterSweep, orders: Iterable[PlannedOrder], out: Path) -> Iterator[str]:
    """Yield the batch scripts of orders, with placeholders for the job ids of dependencies."""
    store, scheduler = JobStore(out), build_scheduler(sweep.scheduler)
    labels = {run.run: run.label for run in sweep.runs}
    for number, planned in enumerate(orders, start=1):
        after = tuple(f"<job of {labels[need]}>" for need in planned.needs)
        order = new_order(sweep.name, planned.request, planned.elements, after, token=f"order-{number}")
        yield scheduler.script(order_script(sweep, store, order, planned.request))


def _write(plan: SweepPlan, sweep: ClusterSweep, out: Path) -> JobStore:
    """Write the plan, its inputs, a copy of the code and the sweep; return the job store."""
    out.mkdir(parents=True, exist_ok=True)
    store = JobStore(out)
    store.make()
    with alone(out):
        draw_inputs(plan.runs, out)
        write_atomically(out / PLAN, record_json(plan.record()))
        code = freeze(packages(), out / "code").relative_to(out)
        cluster_sweep.write(dataclasses.replace(sweep, code=str(code)), out)
    return store


def _hindrances(plan: SweepPlan, profile: Profile, out: Path, dry_run: bool) -> Iterator[str]:
    """Yield problems of the output folder, the plan's inputs and the submit host."""
    # The plan may be replaced as long as no run has started and every order was abandoned.
    ordered = any(not order.abandoned for order in JobStore(out).orders())
    if ordered or (out / "runs").exists() or any_sweep_lives(out):
        try:
            check_kept_plan(plan, out)
        except UserError as error:
            yield str(error)
    yield from input_problems(plan.runs, out, None, plan.grid.settings.settings)
    if re.search(r"[\\:\x00-\x1f\x7f]", str(out.absolute())):
        yield (
            f"--out {str(out.absolute())!r}: a backslash, colon or control character is not allowed, since Slurm or "
            "PYTHONPATH interprets it: choose another --out"
        )
    if re.search(r"[\x00-\x1f\x7f]", str(Path.cwd())):
        yield f"{str(Path.cwd())!r}: a control character is not allowed in the working directory of jobs: rename it"
    if dry_run:
        return
    if importlib.util.find_spec("torch") is not None:
        yield from start_weight_problems(plan.runs, out)
    scheduler = build_scheduler(profile.scheduler)
    program = scheduler.submit_command
    if shutil.which(program) is not None:
        yield from _submitted_by_another(scheduler, out)
    else:
        yield f"no {program} on PATH: submit from a login node, or omit --cluster to run on this machine"
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        why = "is on a read-only file system"
    elif not os.access(there, os.W_OK | os.X_OK):
        why = "is not a folder that you can write to"
    else:
        return
    yield f"--out {out}: {there} {why}: choose another --out, to which jobs can write too"


def _submitted_by_another(scheduler: Scheduler, out: Path) -> Iterator[str]:
    if was_submitted(out):
        try:
            cluster_sweep.check_submitter(scheduler.submitter(), out)
        except SchedulerUnavailableError:  # then nothing is submitted either
            return
        except UserError as error:
            yield str(error)


def _show(plan: SweepPlan, runs: Sequence[ClusterRun], foreseen: Forecast, why_no_keeper: str) -> None:
    """Print each kind of job's resources, the cost, and notes."""
    blocks = job_blocks(plan)
    alike: dict[str, dict[str, None]] = {}
    for run in runs:
        name = blocks[run.run]
        given = {*(plan.grid.jobs.get(DEFAULT) or {}), *(plan.grid.jobs.get(name) or {})}
        alike.setdefault(described(run.request, given), {})[name] = None
    print(f"  each job requests (jobs.{DEFAULT}.KEY=VALUE changes it, jobs.NAME.KEY=VALUE for these runs only)")
    for text, names in alike.items():
        print(f"    {', '.join(names)}: {text}")
    for note in foreseen.notes:
        print(f"  {note}")
    if why_no_keeper:
        print(f"  no keeper: {why_no_keeper}; run `fgssl sync` from time to time to continue the sweep")
    sys.stdout.flush()


def _show_what_next(runs: Sequence[ClusterRun], store: JobStore, out: Path, well: bool) -> None:
    """Print the number of submitted runs and the commands to use next."""
    taken = [order for order in store.orders() if order.job_id is not None]
    with_job = {run for order in taken for element in order.elements for run in element.runs}
    left = sum(run.run not in with_job and not run.done(out) for run in runs)
    if left and well:
        print(f"{left} runs were not submitted yet: the next sync, or the same command again, submits them")
    elif left:
        number = f"{len(with_job)} runs were submitted, {left} were not" if taken else "nothing was submitted"
        print(
            f"{number}: fix the problems above, then run the same command again; it continues from here",
            file=sys.stderr,
        )
