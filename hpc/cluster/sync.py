"""One pass over a sweep on a cluster: observe, decide, apply. Harmless at any time."""

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
from hpc.cluster.status import ClusterState, RunStatus

_TURN_S = 60.0
"""How long to wait for another process's pass."""


@dataclass(frozen=True)
class Report:
    """A pass, for users."""

    runs: Mapping[str, RunStatus]
    progress: Progress
    silent: bool = False
    """Whether the scheduler was silent, so that nothing or not all could be done."""

    @property
    def over(self) -> bool:
        """Whether nothing more becomes of any run by itself."""
        return is_over(self.runs, self.progress.hopeless)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Wait for another process's pass over this folder; raises `LeaseError` where it takes too long."""
    with (out / "cluster" / "sync.lock").open("a") as file:
        if not lock(file, patience_s=_TURN_S):
            raise LeaseError(f"{file.name}: another process has had it for {_TURN_S:.0f} s")
        yield


def observe_sweep(out: Path) -> Observation:
    """Return the state of the sweep in `out` now; raises `UserError` where it holds none."""
    sweep = cluster_sweep.read(out)
    return observe(sweep, out, JobStore(out), build_scheduler(sweep.scheduler))


def synchronize(out: Path) -> Report:
    """Repair what was left open, submit what is due of the sweep in `out`, and leave a keeper.

    Raises `LeaseError` where another process does so now.
    """
    store = JobStore(out)
    with alone(out):
        sweep = cluster_sweep.read(out)  # what was submitted last, also where this pass had to wait
        scheduler = build_scheduler(sweep.scheduler)
        applier = Applier(sweep, store, scheduler)
        seen = observe(sweep, out, store, scheduler, search=True)
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

    Raises `UserError` where there is no scheduler, before anything is changed, or where it does not answer.
    """
    scheduler = build_scheduler(cluster_sweep.read(out).scheduler)
    if shutil.which(scheduler.cancel_command) is None:
        raise UserError(
            f"no {scheduler.cancel_command} on PATH: nothing was changed; give this command on a login node of the "
            "cluster"
        )
    JobStore(out).cancel(names)  # first, so that a job that is told to stop knows that it must not come back
    with alone(out):
        sweep = cluster_sweep.read(out)
        seen = observe(sweep, out, JobStore(out), scheduler)
        if seen.silence:
            raise UserError(f"{seen.silence}; the runs are marked as canceled: the next `fgssl sync` takes them out")
        if jobs := jobs_to_cancel(seen, names):
            scheduler.cancel(jobs)


def retry(out: Path, names: Collection[str]) -> list[RunStatus]:
    """Forget how runs ended, so that they are ordered anew; return those that are left alone since they live.

    Raises `UserError` where the scheduler does not answer.
    """
    with alone(out):
        seen = observe_sweep(out)
        if seen.silence:
            raise UserError(f"{seen.silence}; nothing was changed: give the same command again")
        wanted = [seen.runs[name] for name in names if name in seen.runs]
        JobStore(out).retry(
            [status.run.run for status in wanted if not (status.live or status.state is ClusterState.DONE)]
        )
    return [status for status in wanted if status.live]


Until = Literal["once", "answered", "over"]


def follow(out: Path, until: Until, every_s: float, show: Callable[[Report | Exception], None]) -> Report | None:
    """Make one pass, or one every so many seconds, and return the last one's report.

    What fails for a while ends nothing but a single pass. `answered` goes on until a pass has succeeded and a keeper
    waits; None: it gave up, in time to go back to the queue. `show` gets each pass' report, or the error of a pass that
    is tried again.
    """
    if until != "answered":
        cluster_sweep.read(out)  # is it one?
    deadline = time.monotonic() + KEEPER_PATIENCE_S
    succeeded = False
    while until != "answered" or time.monotonic() <= deadline:
        try:
            report = synchronize(out)
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
