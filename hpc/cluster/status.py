"""Derive each run's status from its files, the job store and the scheduler's facts, as a pure function.

Results on disk take precedence: a run that has them is done, whatever the scheduler reports of its job. A pending or
running job comes second. Otherwise the status follows from the end of the last job, as reported by the scheduler or
else as recorded by the job itself.
"""

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from fgssl.errors import EXIT_INTERRUPTED, EXIT_OUT_OF_HANDS, EXIT_PEER_LOST
from hpc.cluster.cluster_sweep import ClusterRun
from hpc.cluster.job_store import Launch, Order, UserRequests
from hpc.cluster.schedulers.scheduler import JobFact, JobState, Submitter
from hpc.cluster.submissions import Submission, submissions
from hpc.sweeps.retries import Retries


class ClusterState(StrEnum):
    """State of a run on a cluster."""

    WAITING = "WAITING"
    """Run that is not in the queue, since it needs another run first or the queue is full."""
    PENDING = "PENDING"
    """Run with a job in the scheduler's queue."""
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    """Run that ended with an error of its own, as in its traceback."""
    TIMEOUT = "TIMEOUT"
    """Run whose last job reached its time limit. This state and those down to LOST are retried within a budget."""
    PREEMPTED = "PREEMPTED"
    NODE_FAIL = "NODE_FAIL"
    OOM = "OOM"
    LOST = "LOST"
    """Run whose last job left no record of its start or end, lost a process, could not write, or lost the lease."""
    HELD = "HELD"
    """Run whose job is in the queue but starts only after a user releases it."""
    CANCELED = "CANCELED"
    SKIPPED = "SKIPPED"
    """Run that needs another one that will not be trained."""


LIVE = frozenset({ClusterState.PENDING, ClusterState.RUNNING, ClusterState.HELD})
_BUDGETS = {
    ClusterState.TIMEOUT: "timeouts",
    ClusterState.PREEMPTED: "preemptions",
    ClusterState.NODE_FAIL: "node_failures",
    ClusterState.LOST: "node_failures",
    ClusterState.OOM: "memory",
}
"""State after which a run is retried, to the field of `Retries` that limits the number of retries."""
_VISIBLE_WITHIN_S = 90.0
"""Time until another node's new file is visible, on a network file system that caches missing files."""
_NO_SUCH_PROGRAM = (2, 126, 127)
"""Exit codes of srun and of the shell if a program cannot be started."""
_PAY_WITHOUT_PROGRESS = ("timeouts", "preemptions")
"""Budgets that a job with progress restores in full."""
_NEVER_STARTED = ClusterState.LOST, "its job ended before its environment was set up; see its log, if there is one"
"""Ending for an unknown reason, which may recur with every further job."""
_LEFT_QUEUE = ClusterState.CANCELED, "its job left the queue before it started"
"""Ending of a job that the scheduler no longer reports; without a database, `_NEVER_STARTED` becomes it too."""

_ENDINGS = {
    JobState.TIMEOUT: ClusterState.TIMEOUT,
    JobState.PREEMPTED: ClusterState.PREEMPTED,
    JobState.NODE_FAILED: ClusterState.NODE_FAIL,
    JobState.OUT_OF_MEMORY: ClusterState.OOM,
    JobState.CANCELED: ClusterState.CANCELED,
}


@dataclass(frozen=True)
class RunFiles:
    """Contents of a run's folder that determine its status; if the run is done, only the first two fields are set."""

    done: bool = False
    """Whether the folder holds all results."""
    trained: bool = False
    holder: bool = False
    """Whether a process holds its lease, which is read only if the scheduler does not answer."""
    newest_step: int = 0
    """Step of the newest checkpoint."""
    updated: float = 0.0
    """Time of the last record of progress, in seconds since the epoch."""
    failure: str = ""
    """Last line of its traceback."""
    failed: float | None = None
    """Time of the traceback in seconds since the epoch, or None if there is none."""
    others_failed: bool = False
    """Whether a process other than the first left a traceback."""


@dataclass(frozen=True)
class RunStatus:
    """State of a run and of its newest job."""

    run: ClusterRun
    state: ClusterState
    trained: bool = False
    """Whether its training is complete, so that runs that need it can start."""
    submission: int = 0
    """Number of jobs submitted for it so far."""
    job_id: str | None = None
    """Id of the newest job."""
    fact: JobFact | None = None
    """Scheduler's report of that job."""
    reason: str = ""
    """Explanation for users; may be empty."""
    to_submit: bool = False
    """Whether a job may be submitted once its needs are trained or in the queue."""
    undecided: bool = False
    """Whether the end of its job is unknown until the scheduler's records can be read again."""
    lost_on: tuple[str, ...] = ()
    """Nodes of its single-node jobs that failed, or that lost a job after its program began; one entry per job."""
    elsewhere: bool = False
    """Whether its newest job may be live but belongs to another user or cluster, so its id means nothing here."""

    @property
    def live(self) -> bool:
        """Whether its newest job is in the queue or running."""
        return self.state in LIVE

    @property
    def live_here(self) -> bool:
        """Whether its newest job is live, and its id is one of the scheduler here."""
        return self.live and not self.elsewhere

    @property
    def nodes(self) -> str:
        """Nodes of the newest job, separated by commas."""
        return ",".join(self.fact.nodes) if self.fact is not None else ""


def statuses(
    runs: Sequence[ClusterRun],
    files: Mapping[str, RunFiles],
    orders: Iterable[Order],
    launches: Iterable[Launch],
    requests: UserRequests,
    facts: Mapping[str, JobFact] | None,
    retries: Retries,
    now: float,
    up_since: float = 0.0,
    here: Submitter | None = None,
) -> dict[str, RunStatus]:
    """Return {run name: status}; `runs` must be in topological order of their needs.

    `facts` is keyed by job id, or None if the scheduler does not answer. `now` and `up_since` (the scheduler's last
    start) are in seconds since the epoch. `here` is the submitter to whom the scheduler reports, or None for any.
    """
    submitted = submissions(orders, launches, facts, up_since, here)
    found: dict[str, RunStatus] = {}
    for run in runs:
        history = _History(run, files[run.run], submitted.get(run.run, []), requests, facts, now)
        found[run.run] = history.status(retries, found)
    return found


class _History:
    """Files and jobs of one run, from which its status follows."""

    def __init__(
        self,
        run: ClusterRun,
        files: RunFiles,
        jobs: Sequence[Submission],
        requests: UserRequests,
        facts: Mapping[str, JobFact] | None,
        now: float,
    ) -> None:
        self.run, self.files, self.requests, self.facts, self.now = run, files, requests, facts, now
        self.newest = jobs[-1] if jobs else None
        since = requests.retried.get(run.run, 0.0)  # jobs before a request to retry do not count
        self.jobs = [job for job in jobs if job.order.created > since]

    def status(self, retries: Retries, others: Mapping[str, RunStatus]) -> RunStatus:
        """Return the run's status; `others` holds at least those of the runs it needs."""
        newest = self.newest
        known = RunStatus(
            self.run,
            ClusterState.WAITING,
            trained=self.files.trained,
            submission=newest.submission if newest else 0,
            job_id=newest.order.job_id_of(newest.element) if newest else None,
            fact=newest.fact if newest else None,
        )
        if self.files.done:
            return replace(known, state=ClusterState.DONE)
        live = self._live(newest) if newest is not None else None
        over = self.jobs if live is None else self.jobs[:-1]
        endings = self._endings(over)
        # A job that ended before its program began blames its node only if the scheduler does.
        lost = [
            job
            for job, (ended, _) in zip(over, endings, strict=True)
            if ended is ClusterState.NODE_FAIL or (ended is ClusterState.LOST and job.last is not None)
        ]
        known = replace(known, lost_on=tuple(node for job in lost for node in _node(job)))
        if live is not None:
            return replace(known, state=live[0], reason=live[1], elsewhere=newest is not None and newest.elsewhere)
        if self.run.run in self.requests.canceled:
            return replace(known, state=ClusterState.CANCELED, reason="`fgssl retry` undoes this")
        hopeless = [need for need in self.run.needs if _hopeless(others[need])]
        if hopeless:
            why = f"needs {', '.join(others[need].run.label for need in hopeless)}"
            return replace(known, state=ClusterState.SKIPPED, reason=why)
        if newest is None or not self.jobs or self._never_could_start(newest):
            return replace(known, to_submit=True)
        return self._ended(known, newest, endings, retries)

    def _ended(
        self,
        known: RunStatus,
        newest: Submission,
        endings: Sequence[tuple[ClusterState, str]],
        retries: Retries,
    ) -> RunStatus:
        """Return the status of a run whose newest job is over."""
        state, reason = endings[-1]
        known = replace(known, state=state)
        unknown = newest.fact is not None and newest.fact.state is JobState.UNKNOWN
        if unknown and (newest.last is None or newest.last.ended is None):
            why = newest.fact.reason if newest.fact is not None else ""
            return replace(known, reason=f"the end of its job is unknown: {why}", undecided=True)
        if state not in _BUDGETS:
            return replace(known, reason=reason)
        budget = _BUDGETS[state]
        spent, allowed = self._spent(budget, [ended for ended, _ in endings]), getattr(retries, budget)
        retried = f"retried {spent - 1} of {allowed} times after {budget.replace('_', ' ')}"
        return replace(known, reason=f"{reason}; {retried}".removeprefix("; "), to_submit=spent <= allowed)

    def _live(self, job: Submission) -> tuple[ClusterState, str] | None:
        """Return the state and its explanation if the job may still be live, or None if it has ended."""
        if job.elsewhere:
            return self._live_elsewhere(job)
        if self.facts is None:  # count it as live, so that no job is submitted twice
            state = ClusterState.RUNNING if self.files.holder else ClusterState.PENDING
            return state, "the scheduler does not answer"
        if job.order.job_id is None:
            return ClusterState.PENDING, "submitted, but its job id was never recorded: the next sync searches for it"
        fact = job.fact
        if fact is None:
            return None
        if fact.alive:
            return ClusterState(fact.state), fact.reason
        if fact.state is JobState.COMPLETED and fact.ended is not None and self.now - fact.ended < _VISIBLE_WITHIN_S:
            return ClusterState.RUNNING, "its job has ended; waiting until its files are visible here"
        return None

    def _live_elsewhere(self, job: Submission) -> tuple[ClusterState, str] | None:
        """Return the state of a job of another user or cluster, which is over only by its own record of a failure."""
        last = job.last
        if last is not None and last.ended is not None and self._left(last, None, ())[0] is ClusterState.FAILED:
            return None
        state = ClusterState.RUNNING if self.files.holder else ClusterState.PENDING
        who = job.order.submitter or f"the user with number {job.order.owner_uid}"
        return state, f"submitted by {who}, whose jobs cannot be seen from here"

    def _never_could_start(self, job: Submission) -> bool:
        """Return whether the job left the queue because a dependency failed (kill_invalid_depend of some sites)."""
        before = [fact for job_id in job.order.after if (fact := (self.facts or {}).get(job_id)) is not None]
        return job.last is None and any(fact.over and fact.state is not JobState.COMPLETED for fact in before)

    def _endings(self, jobs: Sequence[Submission]) -> list[tuple[ClusterState, str]]:
        """Return the state in which each job left the run, with its explanation."""
        begun = [job.last.started for job in jobs if job.last is not None]
        endings = list[tuple[ClusterState, str]]()
        for job in jobs:
            ending = self._ending(job, [start for start in begun if job.last and start > job.last.started])
            again = ending == _NEVER_STARTED and endings[-1:] in ([_NEVER_STARTED], [_LEFT_QUEUE])
            endings.append((ClusterState.FAILED, f"two jobs in a row: {ending[1]}") if again else ending)
        return endings

    def _ending(self, job: Submission, later_starts: Sequence[float]) -> tuple[ClusterState, str]:
        """Return the state in which a job left its run, with its explanation.

        `later_starts` are the start times of launches after it.
        """
        state = job.fact.state if job.fact is not None else None
        beside = job.order.elements[job.element].runs
        if state is JobState.CANCELED and job.order.packed and self.requests.canceled.intersection(beside):
            return ClusterState.PREEMPTED, "its job was canceled for another run that shared it"
        if state in _ENDINGS:
            return _ENDINGS[state], ""
        # A process that failed may have ended the first one, which records the launch, before it came to that.
        if job.start and (job.last is None or (job.last.ended is None and not job.order.packed)):
            return ClusterState.FAILED, " ".join(job.start.split())
        if job.last is None:
            return _never_began(job)
        return self._left(job.last, state, later_starts)

    def _left(self, last: Launch, state: JobState | None, later_starts: Sequence[float]) -> tuple[ClusterState, str]:
        """Return the state by the record that the job itself left."""
        if last.exit_code == EXIT_INTERRUPTED:
            return _interruption(last, known=state not in (None, JobState.UNKNOWN))
        if last.exit_code == EXIT_OUT_OF_HANDS:
            return ClusterState.LOST, last.said or "it could not read or write, or another job took over; see its log"
        if last.exit_code == EXIT_PEER_LOST and not self.files.others_failed:
            return ClusterState.LOST, "one of its processes died"
        if last.said:
            return ClusterState.FAILED, last.said.strip().rpartition("\n")[2]
        if self.files.failed is not None and self.files.failed >= last.started:
            return ClusterState.FAILED, self.files.failure
        if last.exit_code:
            return ClusterState.FAILED, f"its job failed with exit code {last.exit_code}; see its log"
        if last.ended is None and not later_starts and max(last.started, self.files.updated) > last.time_up:
            return ClusterState.TIMEOUT, "its last progress was recorded at its time limit"
        end = "well, but its results are damaged or missing" if last.exit_code == 0 else "without a record"
        return ClusterState.LOST, f"its job ended {end}"

    def _spent(self, budget: str, endings: Sequence[ClusterState]) -> int:
        """Count jobs charged to a budget; for `_PAY_WITHOUT_PROGRESS`, only those since the last one with progress."""
        later, spent = self.files.newest_step, 0
        for job, ended in zip(reversed(self.jobs), reversed(endings), strict=True):
            first_step = job.last.first_step if job.last is not None else later
            if _BUDGETS.get(ended) == budget:
                if budget in _PAY_WITHOUT_PROGRESS and later > first_step:
                    break
                spent += 1
            later = first_step
        return spent


def _hopeless(need: RunStatus) -> bool:
    """Return whether a needed run will never be trained without the user."""
    return not (need.trained or need.to_submit or need.undecided or need.live)


def _never_began(job: Submission) -> tuple[ClusterState, str]:
    """Return the state and its explanation for a job that ended before its program recorded its start.

    If the batch script reached the program, the launcher or the node ended it. Otherwise the cause is unknown, e.g. a
    log that cannot be opened: `_endings` allows one further job, in case it was the node, and then fails the run.
    """
    fact = job.fact
    if fact is not None and fact.exit_code in _NO_SUCH_PROGRAM:
        return ClusterState.FAILED, "its job could not start Python; see its log"
    if fact is not None and fact.exit_code == EXIT_OUT_OF_HANDS:
        return ClusterState.LOST, "its job could not read or write its files; see its log"
    if job.forgotten:
        return ClusterState.LOST, "its job was lost when the scheduler was restarted"
    if job.start is not None:
        return ClusterState.LOST, "its job ended before its program started"
    if fact is None:  # canceled array tasks vanish like this; other jobs do without a database
        return _LEFT_QUEUE
    return _NEVER_STARTED


def _interruption(last: Launch, known: bool) -> tuple[ClusterState, str]:
    """Return the state and its explanation for an interrupted launch.

    `known` is whether the scheduler reports the end of the job; a cancellation would then have been reported.
    """
    if last.ended is not None and last.ended > last.time_up:
        return ClusterState.TIMEOUT, "interrupted at its time limit"
    if last.signal == signal.SIGTERM and not known:
        return ClusterState.CANCELED, "received TERM, for an unknown reason"
    return ClusterState.PREEMPTED, "interrupted"


def _node(job: Submission) -> tuple[str, ...]:
    """Return the node that may have lost a job, or none if the job had several nodes, ended well or yielded."""
    if job.last is not None and (job.last.exit_code == 0 or job.last.yielded):
        return ()
    nodes = job.last.nodes if job.last is not None else ",".join(job.fact.nodes) if job.fact is not None else ""
    return (nodes,) if nodes and not {",", "["} & set(nodes) else ()
