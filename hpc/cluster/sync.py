"""One pass over a sweep on a cluster: observe, decide, apply. Running it again is always safe."""

import contextlib
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fgssl.errors import LeaseError, UserError
from fgssl.store.files import lock
from hpc.cluster import cluster_sweep
from hpc.cluster.actions import Progress
from hpc.cluster.apply import Applier
from hpc.cluster.decide import (
    decide_keeper,
    decide_orders,
    decide_repairs,
    decide_waiting,
    is_over,
    jobs_to_cancel,
    keeper_wanted,
)
from hpc.cluster.job_store import JobStore
from hpc.cluster.keeper import KEEPER_PATIENCE_S
from hpc.cluster.observation import KeeperStatus, Observation
from hpc.cluster.observe import observe, observe_keeper
from hpc.cluster.schedulers import build_scheduler
from hpc.cluster.schedulers.scheduler import SchedulerUnavailableError
from hpc.cluster.status import ClusterState, RunStatus

_TURN_S = 60.0
"""Longest wait for another process that makes a pass over the same folder."""


@dataclass(frozen=True)
class Report:
    """Outcome of a pass, for users."""

    runs: Mapping[str, RunStatus]
    progress: Progress
    silent: bool = False
    """Whether the scheduler did not answer, so the pass is incomplete."""

    @property
    def over(self) -> bool:
        """Whether no run can change its state without the user."""
        return is_over(self.runs, self.progress.hopeless)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the lock of this folder's passes, after waiting for another process.

    Raises `LeaseError` if the other process holds it for more than a minute.
    """
    with (out / "cluster" / "sync.lock").open("a", encoding="utf-8") as file:
        if not lock(file, patience_s=_TURN_S):
            raise LeaseError(f"{file.name}: another process has had it for {_TURN_S:.0f} s")
        yield


def observe_sweep(out: Path) -> Observation:
    """Return the current state of the sweep in `out`, to be shown, or raise `UserError` if it holds none."""
    sweep = cluster_sweep.read(out)
    return observe(sweep, out, JobStore(out), build_scheduler(sweep.scheduler), to_show=True)


def synchronize(out: Path) -> Report:
    """Make one pass over the sweep in `out`: repair its records, submit jobs and a keeper.

    Raises `LeaseError` if another process is making a pass.
    """
    store = JobStore(out)
    with alone(out):
        sweep = cluster_sweep.read(out)  # read under the lock: the sweep may have been submitted again
        scheduler = build_scheduler(sweep.scheduler)
        seen = observe(sweep, out, store, scheduler, search=True)
        try:
            here = scheduler.submitter()
        except SchedulerUnavailableError as error:
            return Report(seen.runs, Progress(lines=(str(error),)), silent=True)
        cluster_sweep.check_submitter(here, out)
        if cluster_sweep.submitter(out) is None:
            cluster_sweep.note_submitter(here, out)
        applier = Applier(sweep, store, scheduler, here, max((order.created for order in seen.orders), default=0.0))
        if applier.apply(decide_repairs(seen, sweep), seen.runs) and not seen.silence:
            seen = observe(sweep, out, store, scheduler)
        if seen.silence:
            progress = replace(applier.progress, lines=(*applier.progress.lines, seen.silence))
            return Report(seen.runs, progress, silent=True)
        keeper = KeeperStatus()
        if keeper_wanted(seen, sweep):
            keeper = observe_keeper(sweep, store, scheduler)
            applier.apply(decide_keeper(keeper), seen.runs)
        while actions := decide_orders(seen, sweep, applier.progress, keeper):
            applier.apply(actions, seen.runs)
        progress = applier.progress
        store.note_refused(progress.hopeless)
        if progress.ordered or progress.hopeless:
            seen = observe(sweep, out, store, scheduler)
        applier.apply(decide_waiting(seen, progress, observe_keeper(sweep, store, scheduler)), seen.runs)
    return Report(seen.runs, applier.progress, progress.unanswered)


def cancel(out: Path, names: Collection[str]) -> None:
    """Mark runs as canceled and cancel their jobs.

    Raises `UserError` if there is no scheduler, before anything is changed, or if it does not answer.
    """
    scheduler = build_scheduler(cluster_sweep.read(out).scheduler)
    if shutil.which(scheduler.cancel_command) is None:
        raise UserError(
            f"no {scheduler.cancel_command} on PATH: nothing was changed; run this command on the cluster's login node"
        )
    try:
        here = scheduler.submitter()
    except SchedulerUnavailableError:
        here = None
    cluster_sweep.check_submitter(here, out)
    JobStore(out).cancel(names)  # first, so that an interrupted job does not request a requeue
    with alone(out):
        sweep = cluster_sweep.read(out)
        seen = observe(sweep, out, JobStore(out), scheduler)
        if seen.silence:
            raise UserError(f"{seen.silence}; the runs are marked as canceled; run `fgssl sync` to cancel their jobs")
        if jobs := jobs_to_cancel(seen, names):
            scheduler.cancel(jobs)


def retry(out: Path, names: Collection[str], take_over: bool = False) -> list[RunStatus]:
    """Reset the history of runs, so that they are submitted again; return the live ones, which are not reset.

    With `take_over`, the sweep becomes that of this user and cluster, and runs whose jobs belong to another are reset
    too. Raises `UserError` if the scheduler does not answer, or if the sweep is another's and is not taken over.
    """
    with alone(out):
        sweep, store = cluster_sweep.read(out), JobStore(out)
        scheduler = build_scheduler(sweep.scheduler)
        seen = observe(sweep, out, store, scheduler)
        if seen.silence:
            raise UserError(f"{seen.silence}; nothing was changed: run the same command again")
        here = scheduler.submitter()
        if take_over:
            for order in seen.orders:
                if not (order.is_of(here) or order.abandoned):
                    store.abandon(order)
            cluster_sweep.note_submitter(here, out)
        cluster_sweep.check_submitter(here, out)
        wanted = [seen.runs[name] for name in names if name in seen.runs]
        live = [status for status in wanted if (status.live_here if take_over else status.live)]
        store.retry(
            [status.run.run for status in wanted if status not in live and status.state is not ClusterState.DONE]
        )
    return live


Until = Literal["once", "answered", "over"]


def follow(out: Path, until: Until, every_s: float, show: Callable[[Report | Exception], None]) -> Report | None:
    """Make one pass, or one every `every_s` seconds, and return the last report.

    `over` continues until no run can change its state without the user. `answered` continues until a pass has succeeded
    and a keeper is in the queue; it returns None after `KEEPER_PATIENCE_S`, so that the keeper's job can be requeued
    before its time limit. `once` raises every error, and `over` those of the first pass except `LeaseError`; other
    passes are retried. `show` receives the report of each pass, or the error of a pass that is retried.
    """
    if until != "answered":
        cluster_sweep.read(out)  # raises an error if `out` holds no sweep
    deadline = time.monotonic() + KEEPER_PATIENCE_S
    succeeded = False
    while until != "answered" or time.monotonic() <= deadline:
        try:
            report = synchronize(out)
        except cluster_sweep.AnotherSubmitterError:  # trying again would not help
            raise
        except (UserError, OSError) as error:
            passing = succeeded or until == "answered" or isinstance(error, LeaseError)
            if until == "once" or not passing:
                raise
            show(error)
            time.sleep(every_s)
            continue
        succeeded = True
        show(report)
        answered = not (report.silent or report.progress.no_keeper)
        if until == "once" or (not report.silent and report.over) or (until == "answered" and answered):
            return report
        time.sleep(every_s)
    return None
