"""Apply actions: the only module of a pass that writes to the job store and submits, cancels or changes jobs."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fgssl.errors import UserError
from fgssl.store.files import write_atomically
from hpc.cluster import actions
from hpc.cluster.actions import Progress
from hpc.cluster.cluster_sweep import ClusterSweep
from hpc.cluster.job_scripts import keeper_script, order_script
from hpc.cluster.job_store import JobStore, new_order
from hpc.cluster.schedulers.scheduler import (
    JobScript,
    Refusal,
    RefusedError,
    Scheduler,
    SchedulerUnavailableError,
    Submitter,
)
from hpc.cluster.status import RunStatus


class Applier:
    """Executor of actions for one sweep, which accumulates the progress of the pass.

    An error of the scheduler becomes a line of the report and the pass continues; an error of the job store ends it.
    """

    def __init__(
        self, sweep: ClusterSweep, store: JobStore, scheduler: Scheduler, submitter: Submitter, newest_order: float
    ) -> None:
        """`newest_order` is the time of the newest order so far, in seconds since the epoch."""
        self._sweep, self._store, self._scheduler, self._submitter = sweep, store, scheduler, submitter
        self._newest_order = newest_order
        self.progress = Progress()

    def apply(self, chosen: Sequence[actions.Action], runs: Mapping[str, RunStatus]) -> bool:
        """Apply actions in order, up to a submission that is rejected; return whether the report has grown.

        `runs` comes from the observation on which the actions were decided.
        """
        before = len(self.progress.lines)
        for action in chosen:
            if isinstance(action, actions.Submit):
                if not self._submit(action, runs):
                    break
            else:
                self._apply(action)
        return len(self.progress.lines) > before

    def _apply(self, action: actions.Action) -> None:
        store, scheduler = self._store, self._scheduler
        match action:
            case actions.NoteJobId(order, job_id):
                store.note_id(order, job_id)
                kept = f"found job {job_id} of order {order.token}, whose id had not been recorded"
                self._report(kept)
            case actions.NoteCanceled(order, elements):
                store.note_canceled(order, elements)
            case actions.PrintLine(line):
                self._report(line)
            case actions.Abandon(order, never_starts):
                what = f"order {order.token} never reached the scheduler: abandoned"
                with self._reported():
                    if never_starts:
                        scheduler.cancel([order.job_id or ""])
                        what = f"canceled job {order.job_id}, whose dependency failed: its runs are submitted again"
                    store.abandon(order)
                    self._report(what)
            case actions.CancelJobs(job_ids):
                with self._reported():
                    scheduler.cancel(job_ids)
            case actions.Release(job_id, label):
                with self._reported():
                    scheduler.release(job_id)
                    self._report(f"{label}: released job {job_id}, which was held after a failed launch")
            case actions.NoteKeeper(job_id):
                store.note_keeper(job_id)
            case actions.LackKeeper(why):
                self._lack_keeper(why)
            case actions.LeaveKeeper():
                self._leave_keeper()
            case actions.DismissKeeper():
                self._dismiss_keeper(action)
            case actions.KeeperWaitsFor(job_id, others):
                with self._reported():
                    scheduler.wait_for_any(job_id, others)

    # ------------------------------------------------------------------------------------------- keeper

    def _leave_keeper(self) -> None:
        if self._sweep.keeper is None:
            return
        try:
            script = keeper_script(self._sweep, self._store, self._sweep.keeper)
            job_id = self._give(script, self._store.folder / "keeper.sh")
            self._store.note_keeper(job_id)
            self.progress = replace(self.progress, keeper=job_id)
        except UserError as error:
            self._lack_keeper(str(error))

    def _dismiss_keeper(self, action: actions.DismissKeeper) -> None:
        self.progress = replace(self.progress, keeper_dismissed=True)
        with self._reported():
            self._scheduler.cancel([action.job_id])
            if action.for_room:
                self._report("canceled the keeper to make room for a job: run `fgssl sync` to continue")
                self.progress = replace(self.progress, full=frozenset())

    def _lack_keeper(self, why: str) -> None:
        self._report(f"no keeper is in the queue: {why}; run `fgssl sync` to continue")
        self.progress = replace(self.progress, no_keeper=True)

    # ------------------------------------------------------------------------------------------- orders

    def _submit(self, action: actions.Submit, runs: Mapping[str, RunStatus]) -> bool:
        """Submit an order and return whether it was accepted; if not, the progress holds the reason."""
        planned, store = action.planned, self._store
        after = tuple(dict.fromkeys(self._job_of(need, runs) for need in planned.needs))
        order = store.intend(
            new_order(self._sweep.name, planned.request, planned.elements, after, self._submitter, self._newest_order)
        )
        self._newest_order = order.created
        script = order_script(self._sweep, store, order, planned.request, action.excluded)
        try:
            job_id = self._give(script, store.order_file(order.token).with_suffix(".sh"))
        except RefusedError as error:
            store.withdraw(order)
            self._refused(action, error, runs)
            return False
        except SchedulerUnavailableError as error:  # the job may exist nevertheless, so the order stays
            self._report(str(error))
            self.progress = replace(self.progress, unanswered=True)
            return False
        except UserError:  # the submit command is not on PATH, so there is no job
            store.withdraw(order)
            raise
        order = store.note_id(order, job_id)  # if this fails, the next pass finds the job by its name
        jobs = {
            run: order.job_id_of(number) or "" for number, element in enumerate(order.elements) for run in element.runs
        }
        progress = self.progress
        self.progress = replace(
            progress, ordered=progress.ordered + len(order.elements), jobs={**progress.jobs, **jobs}
        )
        return True

    def _job_of(self, need: str, runs: Mapping[str, RunStatus]) -> str:
        """Return the job id of a dependency, which is in the queue or was submitted earlier in this pass."""
        return self.progress.jobs.get(need) or runs[need].job_id or ""

    def _refused(self, action: actions.Submit, error: RefusedError, runs: Mapping[str, RunStatus]) -> None:
        planned, so_far = action.planned, self.progress
        if error.kind in (Refusal.FULL, Refusal.ARRAY) and len(planned.elements) > 1:  # arrays are rejected as a whole
            at_most = {**so_far.at_most, planned.kind: len(planned.elements) // 2}
            self.progress = replace(so_far, at_most=at_most)
        elif error.kind is Refusal.OTHER and action.excluded:
            self._report(f"cannot exclude {' '.join(action.excluded)}, where jobs were lost: {error}")
            self.progress = replace(self.progress, all_nodes_needed=True)
        elif error.kind is Refusal.FULL:
            self._report(f"the queue is full: {error}; the next sync continues")
            full = so_far.full | {planned.request.partition}
            self.progress = replace(self.progress, full=full)
        else:
            names = [run for element in planned.elements for run in element.runs]
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            refused = (*so_far.refused, f"{runs[names[0]].run.label}{more}: {error}")
            words = "refused: " + str(error).partition("\n")[0]
            hopeless = {**so_far.hopeless, **dict.fromkeys(names, words)}
            self.progress = replace(so_far, refused=refused, hopeless=hopeless)

    def _give(self, script: JobScript, file: Path) -> str:
        write_atomically(file, self._scheduler.script(script))
        return self._scheduler.submit(file)

    # ------------------------------------------------------------------------------------------- report

    def _report(self, line: str) -> None:
        self.progress = replace(self.progress, lines=(*self.progress.lines, line))

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Convert an error of the scheduler to a line of the report."""
        try:
            yield
        except UserError as error:
            self._report(str(error))
