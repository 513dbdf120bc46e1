"""Files of runs, the job store and the scheduler's facts -> one status of each run, without looking anywhere.

The disk has the first word: a run whose results lie there is done, whatever the scheduler reports of its job. A job
that the scheduler knows to be waiting or running has the second. How the last job ended comes third: by the
scheduler's word, else by the record that the job itself left.
"""

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from fgssl.errors import EXIT_INTERRUPTED, EXIT_OUT_OF_HANDS, EXIT_PEER_LOST
from hpc.cluster.cluster_sweep import ClusterRun
from hpc.cluster.job_store import Launch, Order, UserRequests
from hpc.cluster.schedulers.scheduler import JobFact, JobState
from hpc.sweeps.retries import Retries


class ClusterState(StrEnum):
    """State of a run."""

    WAITING = "WAITING"
    """Not in the queue yet: it needs another run first, or the queue is full."""
    PENDING = "PENDING"
    """In the scheduler's queue."""
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    """Ended by a fault of its own: see its traceback."""
    TIMEOUT = "TIMEOUT"
    """Its last job ended at its time limit. This and the states down to LOST are retried while the budget lasts."""
    PREEMPTED = "PREEMPTED"
    NODE_FAIL = "NODE_FAIL"
    OOM = "OOM"
    LOST = "LOST"
    """Its last job left no record of its end, and the scheduler has none either."""
    HELD = "HELD"
    """In the queue, but a user must release it."""
    CANCELED = "CANCELED"
    SKIPPED = "SKIPPED"
    """Needs a run that will not be trained."""


LIVE = frozenset({ClusterState.PENDING, ClusterState.RUNNING, ClusterState.HELD})
_BUDGETS = {
    ClusterState.TIMEOUT: "timeouts",
    ClusterState.PREEMPTED: "preemptions",
    ClusterState.NODE_FAIL: "node_failures",
    ClusterState.LOST: "node_failures",
    ClusterState.OOM: "memory",
}
"""State after which a run is tried again, to the field of `Retries` that pays for it."""
_LOST = (ClusterState.LOST, ClusterState.NODE_FAIL)
_VISIBLE_WITHIN_S = 90.0
"""Another node's new file, on a network file system that remembers what it did not see before."""
_UNSAVED_S = 120.0
"""Age up to which a job may be unknown to a scheduler that died and was started anew."""
_NO_SUCH_PROGRAM = (2, 126, 127)
"""Exit codes of srun and of the shell."""
_PAY_WITHOUT_PROGRESS = ("timeouts", "preemptions")

_ENDINGS = {
    JobState.TIMEOUT: ClusterState.TIMEOUT,
    JobState.PREEMPTED: ClusterState.PREEMPTED,
    JobState.NODE_FAILED: ClusterState.NODE_FAIL,
    JobState.OUT_OF_MEMORY: ClusterState.OOM,
    JobState.CANCELED: ClusterState.CANCELED,
}


@dataclass(frozen=True)
class RunFiles:
    """Contents of a run's folder that its status depends on; of a run that is done, the first two alone."""

    done: bool = False
    """Whether all results are there."""
    trained: bool = False
    holder: bool = False
    """Whether a process holds its lease; only looked at where the scheduler is silent."""
    newest_step: int = 0
    """Step of the newest checkpoint."""
    updated: float = 0.0
    """When its progress was last noted, in seconds since the epoch."""
    failure: str = ""
    """Last line of its traceback."""
    failed: float | None = None
    """When that was written; None: there is none."""
    others_failed: bool = False
    """Whether a process other than the first left a traceback."""


@dataclass(frozen=True)
class RunStatus:
    """State of a run and of its newest job."""

    run: ClusterRun
    state: ClusterState
    trained: bool = False
    """Whether runs that need it can start, measured or not."""
    submission: int = 0
    """Jobs that were ordered for it so far."""
    job_id: str | None = None
    """Id of the newest job."""
    fact: JobFact | None = None
    """The scheduler's fact of that job."""
    reason: str = ""
    """For users."""
    to_submit: bool = False
    """Whether the next job may be ordered, once its needs are there or in the queue."""
    undecided: bool = False
    """Whether the end of its job, and so the next step, becomes known when the scheduler's records can be read."""
    lost_on: tuple[str, ...] = ()
    """Nodes that jobs of one node were lost on, once for each."""

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def nodes(self) -> str:
        return ",".join(self.fact.nodes) if self.fact is not None else ""


@dataclass(frozen=True)
class _Submitted:
    """A job that was ordered for a run."""

    order: Order
    element: int
    submission: int
    fact: JobFact | None
    last: Launch | None
    """The last time that it ran."""
    forgotten: bool
    """Whether the scheduler may have lost it, when it was started anew."""


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
) -> dict[str, RunStatus]:
    """Return each run's status; `runs` in an order in which needs come first.

    `facts` by job id; None where the scheduler is silent. `now` and `up_since`, when the scheduler was last started,
    are in seconds since the epoch.
    """
    submitted = _submitted(orders, launches, facts, up_since)
    found: dict[str, RunStatus] = {}
    for run in runs:
        history = _History(run, files[run.run], submitted.get(run.run, []), requests, facts, now)
        found[run.run] = history.status(retries, found)
    return found


def _submitted(
    orders: Iterable[Order], launches: Iterable[Launch], facts: Mapping[str, JobFact] | None, up_since: float
) -> dict[str, list[_Submitted]]:
    """Return the jobs of each run, the first ordered first."""
    newest: dict[tuple[str, int, int], Launch] = {}
    for launch in launches:
        key = launch.token, launch.element, launch.slot
        if key not in newest or newest[key].restart < launch.restart:
            newest[key] = launch
    jobs: dict[str, list[_Submitted]] = {}
    for order in orders:
        if order.abandoned:
            continue
        for number, element in enumerate(order.elements):
            fact = (facts or {}).get(order.job_id_of(number) or "")
            # A scheduler that lost its last jobs, when it died, gives their numbers to others.
            another = fact is not None and fact.name not in ("", order.job_name)
            fact = None if another else fact
            forgotten = another or 0 < up_since - order.created < _UNSAVED_S
            if number in order.canceled and (fact is None or fact.state is JobState.UNKNOWN):
                fact = JobFact(order.job_id_of(number) or "", order.job_name, JobState.CANCELED)
            for slot, (run, submission) in enumerate(zip(element.runs, element.submissions, strict=True)):
                last = newest.get((order.token, number, slot))
                jobs.setdefault(run, []).append(_Submitted(order, number, submission, fact, last, forgotten))
    for of_run in jobs.values():
        of_run.sort(key=lambda job: job.submission)
    return jobs


class _History:
    """The jobs of a run, and how they ended."""

    def __init__(
        self,
        run: ClusterRun,
        files: RunFiles,
        jobs: Sequence[_Submitted],
        requests: UserRequests,
        facts: Mapping[str, JobFact] | None,
        now: float,
    ) -> None:
        self.run, self.files, self.requests, self.facts, self.now = run, files, requests, facts, now
        self.newest = jobs[-1] if jobs else None
        since = requests.retried.get(run.run, 0.0)  # a request to retry forgives all jobs before it
        self.jobs = [job for job in jobs if job.order.created > since]

    def status(self, retries: Retries, others: Mapping[str, RunStatus]) -> RunStatus:
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
        lost = [job for job, (ended, _) in zip(over, endings, strict=True) if ended in _LOST]
        known = replace(known, lost_on=tuple(node for job in lost for node in _node(job)))
        if live is not None:
            return replace(known, state=live[0], reason=live[1])
        if self.run.run in self.requests.canceled:
            return replace(known, state=ClusterState.CANCELED, reason="`retry` takes that back")
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
        newest: _Submitted,
        endings: Sequence[tuple[ClusterState, str]],
        retries: Retries,
    ) -> RunStatus:
        """Return the status of a run whose newest job is over."""
        state, reason = endings[-1]
        known = replace(known, state=state)
        unknown = newest.fact is not None and newest.fact.state is JobState.UNKNOWN
        if unknown and (newest.last is None or newest.last.ended is None):
            why = newest.fact.reason if newest.fact is not None else ""
            return replace(known, reason=f"how its job ended is not known now: {why}", undecided=True)
        if state not in _BUDGETS:
            return replace(known, reason=reason)
        budget = _BUDGETS[state]
        spent, allowed = self._spent(budget, [ended for ended, _ in endings]), getattr(retries, budget)
        retried = f"tried again {spent - 1} of {allowed} times after {budget.replace('_', ' ')}"
        return replace(known, reason=f"{reason}; {retried}".removeprefix("; "), to_submit=spent <= allowed)

    def _live(self, job: _Submitted) -> tuple[ClusterState, str] | None:
        """Return the state of a job that is not over and the reason, or None."""
        if self.facts is None:  # nobody knows: an ordered job counts as alive, so that nothing is made twice
            state = ClusterState.RUNNING if self.files.holder else ClusterState.PENDING
            return state, "the scheduler does not answer"
        if job.order.job_id is None:
            return ClusterState.PENDING, "ordered, but its number was never noted: the next sync looks for it"
        fact = job.fact
        if fact is None:
            return None
        if fact.alive:
            return ClusterState(fact.state), fact.reason
        if fact.state is JobState.COMPLETED and fact.ended is not None and self.now - fact.ended < _VISIBLE_WITHIN_S:
            return ClusterState.RUNNING, "its job has ended; waiting for its files to be seen here"
        return None

    def _never_could_start(self, job: _Submitted) -> bool:
        """Whether it left the queue because a job before it did not end well, as some sites have it."""
        before = [fact for job_id in job.order.after if (fact := (self.facts or {}).get(job_id)) is not None]
        return job.last is None and any(fact.over and fact.state is not JobState.COMPLETED for fact in before)

    def _endings(self, jobs: Sequence[_Submitted]) -> list[tuple[ClusterState, str]]:
        """Return how each job ended, and the reason."""
        begun = [job.last.started for job in jobs if job.last is not None]
        return [self._ending(job, [start for start in begun if job.last and start > job.last.started]) for job in jobs]

    def _ending(self, job: _Submitted, later_starts: Sequence[float]) -> tuple[ClusterState, str]:
        """Return how a job ended whose run is not done; `later_starts` are those of jobs after it."""
        state = job.fact.state if job.fact is not None else None
        beside = job.order.elements[job.element].runs
        if state is JobState.CANCELED and job.order.packed and self.requests.canceled.intersection(beside):
            return ClusterState.PREEMPTED, "its job went with that of another run, which was canceled"
        if state in _ENDINGS:
            return _ENDINGS[state], ""
        if job.last is None:
            return _never_began(job)
        return self._left(job.last, state, later_starts)

    def _left(self, last: Launch, state: JobState | None, later_starts: Sequence[float]) -> tuple[ClusterState, str]:
        """Return the ending by the record that the job itself left."""
        if last.exit_code == EXIT_INTERRUPTED:
            return _interruption(last, known=state not in (None, JobState.UNKNOWN))
        if last.exit_code == EXIT_OUT_OF_HANDS:
            return ClusterState.LOST, last.said or "it could not write, or another launch has taken over: see its log"
        if last.exit_code == EXIT_PEER_LOST and not self.files.others_failed:
            return ClusterState.LOST, "one of its processes was lost"
        if last.said:
            return ClusterState.FAILED, last.said.strip().rpartition("\n")[2]
        if self.files.failed is not None and self.files.failed >= last.started:
            return ClusterState.FAILED, self.files.failure
        if last.exit_code:
            return ClusterState.FAILED, f"its job left with {last.exit_code}: see its log"
        if last.ended is None and not later_starts and max(last.started, self.files.updated) > last.time_up:
            return ClusterState.TIMEOUT, "its last sign came at its time limit"
        return ClusterState.LOST, "its job ended without a word"

    def _spent(self, budget: str, endings: Sequence[ClusterState]) -> int:
        """Count the jobs that ended so; for a time limit, only those since the last one that brought progress."""
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
    """Whether it will not be trained unless a user does something."""
    return not (need.trained or need.to_submit or need.undecided or need.live)


def _never_began(job: _Submitted) -> tuple[ClusterState, str]:
    """Return the ending of a job that left no record."""
    fact = job.fact
    if fact is not None and fact.exit_code in _NO_SUCH_PROGRAM:
        return ClusterState.FAILED, "its job found no Python: see its log"
    if fact is not None and fact.exit_code == EXIT_OUT_OF_HANDS:
        return ClusterState.LOST, "its node did not see its files, or could not load its modules: see its log"
    if job.forgotten:
        return ClusterState.LOST, "the scheduler was started anew and does not know its job"
    if fact is None:  # so vanish canceled jobs: tasks of arrays always, others where there is no database
        return ClusterState.CANCELED, "its job left the queue without having begun"
    return ClusterState.LOST, "its job left without having begun"


def _interruption(last: Launch, known: bool) -> tuple[ClusterState, str]:
    """`known`: whether the scheduler reports the job's end; had it been canceled, it would report that."""
    if last.ended is not None and last.ended > last.time_up:
        return ClusterState.TIMEOUT, "interrupted at its time limit"
    if last.signal == signal.SIGTERM and not known:
        return ClusterState.CANCELED, "told to stop, nobody says why"
    return ClusterState.PREEMPTED, "interrupted"


def _node(job: _Submitted) -> tuple[str, ...]:
    """Return the node of a job of one node; of several, it may be any of them."""
    nodes = job.last.nodes if job.last is not None else ",".join(job.fact.nodes) if job.fact is not None else ""
    return (nodes,) if nodes and not {",", "["} & set(nodes) else ()
