"""Observe a sweep on a cluster: the only module that reads run folders, the job store and the scheduler for a pass."""

import dataclasses
import time
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from fgssl.errors import UserError
from fgssl.store.records import TRAINED
from fgssl.store.run_folder import OTHERS_FAILURES, RunFolder
from hpc.cluster.cluster_sweep import ClusterRun, ClusterSweep
from hpc.cluster.job_store import JobStore, Order
from hpc.cluster.observation import KeeperStatus, Observation
from hpc.cluster.schedulers.scheduler import (
    JobFact,
    JobState,
    Scheduler,
    SchedulerUnavailableError,
    Submitter,
)
from hpc.cluster.status import ClusterState, RunFiles, statuses


def observe(
    sweep: ClusterSweep,
    out: Path,
    store: JobStore,
    scheduler: Scheduler,
    search: bool = False,
    to_show: bool = False,
) -> Observation:
    """Return the current state of a sweep.

    With `search`, jobs whose ids were never recorded are looked up by name, at the cost of a scheduler call for each.
    Jobs of other users or clusters are not looked up, since this scheduler may not see them, or may have given their
    ids to other jobs. `to_show` leaves damaged orders out with a warning; nothing must be decided on that, since their
    jobs may run.
    """
    orders = store.orders(skip_damaged=to_show)
    undone = {run.run for run in sweep.runs if not run.done(out)}
    facts: Mapping[str, JobFact] | None
    here, found, up_since, silence = None, dict[str, str | None](), 0.0, ""
    try:
        if any(not undone.isdisjoint(element.runs) for order in orders for element in order.elements):
            here = scheduler.submitter()
        found = _search((order for order in orders if order.is_of(here)), scheduler) if search else {}
        orders = [dataclasses.replace(order, job_id=order.job_id or found.get(order.token)) for order in orders]
        asked = _job_ids(undone, (order for order in orders if order.is_of(here)))
        facts = scheduler.facts(asked)
        up_since = 0.0 if facts.keys() >= set(asked) else scheduler.up_since()
    except SchedulerUnavailableError as error:
        facts, silence = None, str(error)
    # Read what jobs left after the facts: a job that ended in between has left it by then.
    starts, launches = store.starts(), list(store.launches())
    orders = [dataclasses.replace(order, starts=starts.get(order.token, {})) for order in orders]
    requests, now = store.user_requests(), time.time()
    files = {run.run: RunFiles(done=True, trained=True) for run in sweep.runs if run.run not in undone}
    files |= read_files((run for run in sweep.runs if run.run in undone), out, orders, here, silent=facts is None)
    runs = statuses(sweep.runs, files, orders, launches, requests, facts, sweep.retries, now, up_since, here)
    for name, words in store.refused().items():
        if name in runs and runs[name].state is ClusterState.WAITING:
            runs[name] = dataclasses.replace(runs[name], reason=words)
    return Observation(now, runs, orders, launches, requests, facts or {}, silence, found)


def observe_empty_queue(sweep: ClusterSweep, out: Path) -> Observation:
    """Return the state of a sweep as if no job had been submitted for it, without calling the scheduler."""
    files, requests = read_files(sweep.runs, out, []), JobStore(out).user_requests()
    now = time.time()
    return Observation(now, statuses(sweep.runs, files, [], [], requests, {}, sweep.retries, now))


def observe_keeper(sweep: ClusterSweep, store: JobStore, scheduler: Scheduler) -> KeeperStatus:
    """Return the keeper in the queue, even if its job id was never recorded."""
    if sweep.keeper is None:
        return KeeperStatus()
    name, noted, held = sweep.keeper.job_name, store.keeper(), dict[str, None]()
    try:
        # The search by name also queries the database, so it comes second.
        for known in (lambda: [noted] if noted is not None else [], lambda: scheduler.find(name)):
            for job_id, fact in scheduler.facts(known()).items():
                if fact.name != name or fact.started is not None or not fact.alive:
                    continue
                if fact.state is not JobState.HELD:
                    return KeeperStatus(job_id, job_id == noted, tuple(held))
                held[job_id] = None
    except UserError as error:
        return KeeperStatus(held=tuple(held), silence=str(error))
    return KeeperStatus(held=tuple(held))


def read_files(
    runs: Iterable[ClusterRun],
    out: Path,
    orders: Iterable[Order],
    here: Submitter | None = None,
    silent: bool = False,
) -> dict[str, RunFiles]:
    """Return {run name: contents of its folder}.

    Leases are read of runs whose jobs the scheduler does not report on: those that are not `here`, and all of them if
    it is `silent`.
    """
    ordered, unseen = set[str](), set[str]()
    for order in orders:
        names = {run for element in order.elements for run in element.runs}
        ordered |= names
        unseen |= set() if order.is_of(here) and not silent else names
    return {run.run: _read_files(run, out, run.run in ordered, run.run in unseen) for run in runs}


def newest_step(folder: RunFolder) -> int:
    """Return the step of the newest checkpoint, or 0 if there is none."""
    names = [path.name for path in folder.checkpoints.glob(f"step-{'[0-9]' * 8}")]
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def _read_files(run: ClusterRun, out: Path, ordered: bool, unseen: bool) -> RunFiles:
    names = run.files(out)
    done, trained = names.issuperset(run.results), TRAINED in names
    if done or not ordered:
        return RunFiles(done, trained)
    folder = RunFolder(out / "runs" / run.run)
    progress = folder.progress()
    text, failed, others_failed = _failure(folder, names)
    return RunFiles(
        done,
        trained,
        holder=unseen and folder.holder() is not None,
        newest_step=newest_step(folder),
        updated=progress.updated if progress else 0.0,
        failure=text,
        failed=failed,
        others_failed=others_failed,
    )


def _failure(folder: RunFolder, names: Collection[str]) -> tuple[str, float | None, bool]:
    """Return the traceback's last line, its time (seconds since the epoch), and whether another process left one."""
    told, others = "failure.txt" in names, any(fnmatch(name, OTHERS_FAILURES) for name in names)
    if not (told or others):
        return "", None, False
    try:
        text = (folder.failure() or "").strip().rpartition("\n")[2]
        return text, (folder.path / "failure.txt").stat().st_mtime if told else None, others
    except FileNotFoundError:  # a running job has just deleted it
        return "", None, False


def _job_ids(undone: set[str], orders: Iterable[Order]) -> Collection[str]:
    """Return the job ids of runs that are not done, and of their dependencies."""
    found: dict[str, None] = {}
    for order in orders:
        for number, element in enumerate(order.elements):
            if not undone.isdisjoint(element.runs) and (job_id := order.job_id_of(number)) is not None:
                found |= dict.fromkeys([job_id, *order.after])
    return list(found)


def _search(orders: Iterable[Order], scheduler: Scheduler) -> dict[str, str | None]:
    """Return {token: job id} of orders without a recorded id; None if the scheduler has no such job.

    Their submitter was killed before it recorded the id, or before it submitted the job.
    """
    found: dict[str, str | None] = {}
    for order in orders:
        if order.job_id is None and not order.abandoned:
            try:
                found[order.token] = next(iter(scheduler.find(order.job_name)), None)
            except SchedulerUnavailableError:
                continue
    return found
