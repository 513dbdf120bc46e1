"""Sweep on this machine: compare the plan with the disk, start missing runs and show them, until all are over."""

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from fgssl.errors import LeaseError, UserError
from hpc.local.display import Display
from hpc.local.executor import Job, LocalMachine, Outcome
from hpc.local.launch import CURRENT, LOG, WorkOrder
from hpc.local.logs import warnings_in
from hpc.sweeps.plan import SweepRun
from hpc.sweeps.state import OVER, State, run_folder, states

_POLL_S = 0.5
_REST, _LONGEST_POLL_S = 30, 10.0
"""Least ratio of waiting to the processor's time for a look at all runs, so that a sweep of many runs looks less often,
and the longest wait for that."""
_GRACE_S = 60.0
"""Time for saving a checkpoint at the end of a step, before a job is killed."""
_EARLY_DEATHS = 3
"""Jobs in a row that end before they begin a run, at which the sweep gives up."""


class LocalSweep:
    """Sweep that keeps at most `jobs` jobs running, spread over `devices` if there are any.

    In `runs`, each run comes after those that it needs.
    """

    def __init__(
        self,
        runs: Sequence[SweepRun],
        out: Path,
        machine: LocalMachine,
        display: Display,
        *,
        jobs: int,
        devices: Sequence[str],
        code: Path,
    ) -> None:
        self._runs, self._out, self._machine, self._display = tuple(runs), out.absolute(), machine, display
        self._max_jobs, self._devices, self._code = jobs, devices, code.absolute()
        self._live: dict[Job, str | None] = {}  # job -> its device
        self._started = self._early_deaths = 0
        self._begun: set[Job] = set()  # live jobs that have begun a run
        self._done: frozenset[str] = frozenset()  # keys of runs that were done at the last look and stay so
        self._failures: dict[str, str] = {}
        self._submission: Path | None = None

    def run(self, submission: Path) -> dict[str, State]:
        """Make runs until all are over, whatever fails, and return the final states. On Ctrl-C, jobs save and stop.

        The jobs' records lie in `submission`, whose lock must be held until the end (`submission_folder`).
        """
        self._forget_old_failures()
        self._submission = submission.absolute()
        with _signals_interrupt():
            try:
                while True:
                    began_s = time.process_time()
                    current = self._reconcile()
                    self._display.update(current)
                    if not self._live and all(state in OVER for state in current.values()):
                        return current
                    self._start_jobs(current, self._submission)
                    time.sleep(max(_POLL_S, min(_LONGEST_POLL_S, _REST * (time.process_time() - began_s))))
            except BaseException as error:
                if self._live and isinstance(error, KeyboardInterrupt):
                    self._display.say(
                        "interrupted: the runs are saving a checkpoint and stopping (Ctrl-C again kills them at once)"
                    )
                self._machine.cancel(list(self._live), _GRACE_S)
                if isinstance(error, KeyboardInterrupt):
                    self._display.say("the same command continues from here")
                raise

    def failures(self, final: Mapping[str, State]) -> dict[str, str]:
        """Return the failure of each failed run, or the ending of its job if it left none, by the run's label."""
        found = {}
        for run in self._runs:
            if final[run.key] is State.FAILED:
                found[run.label] = run_folder(run, self._out).failure() or self._failures.get(run.run, "")
        return found

    def warnings(self) -> list[str]:
        """Return the warnings that the runs printed into the logs of their jobs, each once."""
        return [] if self._submission is None else warnings_in(sorted(self._submission.glob(f"*/{LOG}")))

    def _forget_old_failures(self) -> None:
        """Delete failures that earlier sweeps left, so that their runs are tried again."""
        for run in self._runs:
            folder = run_folder(run, self._out)
            if folder.failure() is not None and not folder.done(run.config):
                with contextlib.suppress(LeaseError), folder.lease(run.config) as lease:
                    lease.clear_failure()

    def _reconcile(self) -> dict[str, State]:
        for job in list(self._live):
            if (outcome := job.poll()) is not None:
                del self._live[job]
                self._begun.discard(job)
                self._settle(job, outcome)
            elif job not in self._begun and job.current() is not None:
                self._begun.add(job)
                self._early_deaths = 0
        current = states(self._runs, self._out, self._failures, self._done)
        self._done = frozenset(key for key, state in current.items() if state is State.DONE)
        return current

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """Record the failure of a run whose job could not do so itself, because it was killed or the disk is full."""
        if not outcome.clean and outcome.run is None:
            self._early_deaths += 1
            if self._early_deaths >= _EARLY_DEATHS:
                raise UserError(
                    f"{self._early_deaths} jobs in a row ended before they began a run; the last one: {outcome.reason}"
                )
            return
        self._early_deaths = 0
        if outcome.clean:
            return
        left = [run for run in self._runs if run.run == outcome.run]
        run, folder = left[0], run_folder(left[0], self._out)
        if all(folder.done(run.config) for run in left) or folder.holder() is not None:
            # The job failed after the run's last file was written, or another process works on the run. There is no
            # failure to record, and `current.json` must not keep other jobs from the run.
            (job.folder / CURRENT).unlink(missing_ok=True)
            return
        self._failures[run.run] = folder.failure() or outcome.reason
        if folder.failure() is None:
            with contextlib.suppress(UserError), folder.lease(run.config) as lease:
                lease.write("failure.txt", outcome.reason)

    def _start_jobs(self, current: Mapping[str, State], submission: Path) -> None:
        """Start as many jobs as there is room and work for.

        Runs of other processes (of a killed or a second sweep) take room too, and count as this sweep's when they end.
        """
        ours = {name for job in self._live if (name := job.current()) is not None}
        others = {run.run for run in self._runs if current[run.key] is State.RUNNING} - ours
        ready = [run for run in self._runs if current[run.key] is State.PENDING and run.run not in ours]
        unoccupied = sum(job.current() is None for job in self._live)  # starting, or between two runs
        room = self._max_jobs - len(self._live) - len(others)
        for run in ready[unoccupied : unoccupied + max(0, room)]:
            self._started += 1
            device = min(self._devices, key=list(self._live.values()).count, default=None)
            order = WorkOrder(
                runs=self._runs,
                out=self._out,
                code=self._code,
                job=submission / f"job-{self._started:03d}",
                threads=run.config.resources.threads,
            )
            self._live[self._machine.submit(order, device)] = device


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Treat TERM like Ctrl-C, and HUP of a closed terminal too unless it is ignored (nohup)."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
