"""Run folders, books and what the scheduler says -> one state of each run.

The disk has the first word: a run whose results lie there is done, whatever the scheduler says of its job. A job that
the scheduler knows to be waiting or running has the second. How the last job ended comes third: by the scheduler's
word, else by what the job itself left.
"""

import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from fgssl.errors import EXIT_INTERRUPTED, EXIT_OUT_OF_HANDS, EXIT_PEER_LOST
from fgssl.store.run_folder import RunFolder
from hpc.cluster.cluster_sweep import ClusterRun
from hpc.cluster.job_store import Attempt, Order, Wishes
from hpc.cluster.schedulers.scheduler import UNKNOWN, JobFact
from hpc.sweeps.retries import Retries


class ClusterState(StrEnum):
    WAITING = "WAITING"
    """Not in the queue yet: it needs another run first, or the queue is full."""
    PENDING = "PENDING"
    """In the scheduler's queue."""
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    """By a fault of its own: see its traceback."""
    TIMEOUT = "TIMEOUT"
    """Its last job ended at its time limit; as are the next ones, to be tried again while its budget lasts."""
    PREEMPTED = "PREEMPTED"
    NODE_FAIL = "NODE_FAIL"
    OOM = "OOM"
    LOST = "LOST"
    """Its last job ended without a word, and the scheduler has none either."""
    HELD = "HELD"
    """In the queue, but somebody must release it."""
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    """Needs a run of which nothing will become."""


LIVE = frozenset({ClusterState.PENDING, ClusterState.RUNNING, ClusterState.HELD})
_TO_BE_TRIED_AGAIN = {
    ClusterState.TIMEOUT: "timeouts",
    ClusterState.PREEMPTED: "preemptions",
    ClusterState.NODE_FAIL: "node_failures",
    ClusterState.LOST: "node_failures",
    ClusterState.OOM: "memory",
}
"""And the budget that pays for it."""
_LOST = (ClusterState.LOST, ClusterState.NODE_FAIL)
_VISIBLE_WITHIN_S = 90.0
"""Another node's new file, on a network file system that remembers what it did not see before."""
_UNSAVED_S = 120.0
"""Of what was ordered so shortly before it died, the scheduler may know nothing when it is started anew."""
_NO_SUCH_PROGRAM = (2, 126, 127)
"""Of srun, and of the shell."""
_PAY_WITHOUT_PROGRESS = ("timeouts", "preemptions")

_ENDINGS = {
    "TIMEOUT": ClusterState.TIMEOUT,
    "DEADLINE": ClusterState.TIMEOUT,
    "PREEMPTED": ClusterState.PREEMPTED,
    "NODE_FAIL": ClusterState.NODE_FAIL,
    "BOOT_FAIL": ClusterState.NODE_FAIL,
    "OUT_OF_MEMORY": ClusterState.OOM,
    "CANCELLED": ClusterState.CANCELLED,
    "REVOKED": ClusterState.CANCELLED,
}


@dataclass(frozen=True)
class View:
    """What is known of a run."""

    run: ClusterRun
    state: ClusterState
    trained: bool = False
    """Whether what needs it can start, measured or not."""
    attempt: int = 0
    """Jobs that were ordered for it so far."""
    job_id: str | None = None
    """Of the newest job."""
    nodes: str = ""
    reason: str = ""
    """For people."""
    to_submit: bool = False
    """Whether the next job may be ordered, once what it needs is there or in the queue."""
    restarts: int = 0
    """How often that job went back to the queue."""
    undecided: bool = False
    """Whether what ended its job, and so what follows, will be known when the database answers."""
    lost_on: tuple[str, ...] = ()
    """Nodes that jobs of one node were lost on, once for each."""


@dataclass(frozen=True)
class _Job:
    """A job that was ordered for a run, and what is known of it."""

    order: Order
    element: int
    attempt: int
    fact: JobFact | None
    last: Attempt | None
    """The last time that it ran."""
    forgotten: bool
    """The scheduler may have lost it, when it was started anew."""


def look(
    runs: Sequence[ClusterRun],
    out: Path,
    orders: Iterable[Order],
    attempts: Iterable[Attempt],
    wishes: Wishes,
    facts: Mapping[str, JobFact] | None,
    retries: Retries,
    up_since: float = 0.0,
) -> dict[str, View]:
    """By run; `runs` in an order in which needs come first. `facts` by job id; None where the scheduler is silent.

    `up_since`: when the scheduler was last started (seconds since the epoch).
    """
    jobs = _jobs(orders, attempts, facts, up_since)
    views: dict[str, View] = {}
    for run in runs:
        views[run.run] = _view(run, out, jobs.get(run.run, []), wishes, facts, retries, views)
    return views


def _jobs(
    orders: Iterable[Order], attempts: Iterable[Attempt], facts: Mapping[str, JobFact] | None, up_since: float
) -> dict[str, list[_Job]]:
    """Of each run, the first ordered first."""
    newest: dict[tuple[str, int, int], Attempt] = {}
    for attempt in attempts:
        key = attempt.token, attempt.element, attempt.slot
        if key not in newest or newest[key].restart < attempt.restart:
            newest[key] = attempt
    jobs: dict[str, list[_Job]] = {}
    for order in orders:
        if order.void:
            continue
        for number, element in enumerate(order.elements):
            fact = (facts or {}).get(order.job_id_of(number) or "")
            # A scheduler that lost its last jobs, when it died, gives their numbers to others.
            another = fact is not None and fact.name not in ("", order.job_name)
            fact = None if another else fact
            forgotten = another or 0 < up_since - order.created < _UNSAVED_S
            if number in order.cancelled and (fact is None or fact.state == UNKNOWN):
                fact = JobFact(order.job_id_of(number) or "", order.job_name, "CANCELLED", "")
            for slot, (run, attempt_number) in enumerate(zip(element.runs, element.attempts, strict=True)):
                last = newest.get((order.token, number, slot))
                jobs.setdefault(run, []).append(_Job(order, number, attempt_number, fact, last, forgotten))
    for of_run in jobs.values():
        of_run.sort(key=lambda job: job.attempt)
    return jobs


def _view(
    run: ClusterRun,
    out: Path,
    jobs: Sequence[_Job],
    wishes: Wishes,
    facts: Mapping[str, JobFact] | None,
    retries: Retries,
    views: Mapping[str, View],
) -> View:
    folder = RunFolder(out / "runs" / run.run)
    newest = jobs[-1] if jobs else None
    fact = newest.fact if newest else None
    known = View(
        run,
        ClusterState.WAITING,
        trained=run.trained(out),
        attempt=newest.attempt if newest else 0,
        job_id=newest.order.job_id_of(newest.element) if newest else None,
        nodes=",".join(fact.nodes) if fact else "",
        restarts=fact.restarts if fact else 0,
    )
    if run.done(out):
        return replace(known, state=ClusterState.DONE)
    since = wishes.retried.get(run.run, 0.0)  # what came before is forgiven
    jobs = [job for job in jobs if job.order.created > since]
    live = _live(newest, folder, facts) if newest is not None else None
    over = jobs if live is None else jobs[:-1]
    endings = _endings(over, folder, wishes)
    lost = [job for job, (ended, _) in zip(over, endings, strict=True) if ended in _LOST]
    known = replace(known, lost_on=tuple(node for job in lost for node in _node(job)))
    if live is not None:
        return replace(known, state=live[0], reason=live[1])
    if run.run in wishes.cancelled:
        return replace(known, state=ClusterState.CANCELLED, reason="`retry` takes that back")
    hopeless = [need for need in run.needs if _hopeless(views[need])]
    if hopeless:
        why = f"needs {', '.join(views[need].run.label for need in hopeless)}"
        return replace(known, state=ClusterState.SKIPPED, reason=why)
    if newest is None or not jobs or _never_could_start(newest, facts):
        return replace(known, to_submit=True)
    state, reason = endings[-1]
    known = replace(known, state=state)
    if fact is not None and fact.state == UNKNOWN and (newest.last is None or newest.last.ended is None):
        return replace(known, reason=f"how its job ended is not known now: {fact.reason}", undecided=True)
    if state not in _TO_BE_TRIED_AGAIN:
        return replace(known, reason=reason)
    budget = _TO_BE_TRIED_AGAIN[state]
    spent, allowed = _spent(budget, jobs, [ended for ended, _ in endings], folder), getattr(retries, budget)
    retried = f"tried again {spent - 1} of {allowed} times after {budget.replace('_', ' ')}"
    return replace(known, reason=f"{reason}; {retried}".removeprefix("; "), to_submit=spent <= allowed)


def _hopeless(need: View) -> bool:
    """Whether it will not be trained unless somebody does something."""
    return not (need.trained or need.to_submit or need.undecided or need.state in LIVE)


def _alive(fact: JobFact) -> bool:
    return not fact.over and fact.state != UNKNOWN


def _live(job: _Job, folder: RunFolder, facts: Mapping[str, JobFact] | None) -> tuple[ClusterState, str] | None:
    """None where the job is over."""
    if facts is None:  # nobody knows: what was ordered counts as alive, so that nothing is made twice
        at_work = folder.holder() is not None
        return (ClusterState.RUNNING if at_work else ClusterState.PENDING), "the scheduler does not answer"
    if job.order.job_id is None:
        return ClusterState.PENDING, "ordered, but its number was never noted: the next sync looks for it"
    fact = job.fact
    if fact is None:
        return None
    if fact.held:
        return ClusterState.HELD, _words(fact)
    if _alive(fact):
        waits = fact.started is None
        return (ClusterState.PENDING if waits else ClusterState.RUNNING), _words(fact)
    if fact.state == "COMPLETED" and fact.ended is not None and time.time() - fact.ended < _VISIBLE_WITHIN_S:
        return ClusterState.RUNNING, "its job has ended; waiting for its files to be seen here"
    return None


def _words(fact: JobFact) -> str:
    return "" if fact.reason == "None" else fact.reason


def _never_could_start(job: _Job, facts: Mapping[str, JobFact] | None) -> bool:
    """Whether it left the queue because a job before it did not end well, as some sites have it."""
    return job.last is None and any(
        (fact := (facts or {}).get(before)) is not None and fact.over and fact.state != "COMPLETED"
        for before in job.order.after
    )


def _endings(jobs: Sequence[_Job], folder: RunFolder, wishes: Wishes) -> list[tuple[ClusterState, str]]:
    """How each of a run's jobs ended, and the words for it."""
    begun = [job.last.started for job in jobs if job.last is not None]
    return [
        _ending(job, folder, wishes, [start for start in begun if job.last and start > job.last.started])
        for job in jobs
    ]


def _ending(job: _Job, folder: RunFolder, wishes: Wishes, later_starts: Sequence[float]) -> tuple[ClusterState, str]:
    """How a job that is over ended, though its run is not done; `later_starts` are those of jobs after it."""
    word = job.fact.state if job.fact is not None else ""
    others = job.order.elements[job.element].runs
    if word == "CANCELLED" and job.order.packed and wishes.cancelled.intersection(others):
        return ClusterState.PREEMPTED, "its job went with that of another run, which was cancelled"
    if word in _ENDINGS:
        return _ENDINGS[word], ""
    last = job.last
    if last is None:
        if job.fact is not None and job.fact.exit_code in _NO_SUCH_PROGRAM:
            return ClusterState.FAILED, "its job found no Python: see its log"
        if job.fact is not None and job.fact.exit_code == EXIT_OUT_OF_HANDS:
            return ClusterState.LOST, "its node did not see its files, or could not load its modules: see its log"
        if job.forgotten:
            return ClusterState.LOST, "the scheduler was started anew and does not know its job"
        if word == "":  # so vanish what people cancelled, tasks of arrays always, others where there is no database
            return ClusterState.CANCELLED, "its job left the queue without having begun"
        return ClusterState.LOST, "its job left without having begun"
    if last.exit_code == EXIT_INTERRUPTED:
        return _interruption(last, known=word not in ("", UNKNOWN))
    if last.exit_code == EXIT_OUT_OF_HANDS:
        return ClusterState.LOST, last.said or "it could not write, or another attempt has taken over: see its log"
    if last.exit_code == EXIT_PEER_LOST and not folder.failures_of_others(patience_s=0.0):
        return ClusterState.LOST, "one of its processes was lost"
    if last.said:
        return ClusterState.FAILED, last.said.strip().rpartition("\n")[2]
    failure = folder.path / "failure.txt"
    if failure.exists() and failure.stat().st_mtime >= last.started:
        return ClusterState.FAILED, (folder.failure() or "").strip().rpartition("\n")[2]
    if last.exit_code:
        return ClusterState.FAILED, f"its job left with {last.exit_code}: see its log"
    if last.ended is None and not later_starts and _last_sign(last, folder) > last.time_up:
        return ClusterState.TIMEOUT, "its last sign came at its time limit"
    return ClusterState.LOST, "its job ended without a word"


def _interruption(last: Attempt, known: bool) -> tuple[ClusterState, str]:
    """`known`: whether the scheduler has a word for the job's end; for one that was cancelled, it would be that."""
    if last.ended is not None and last.ended > last.time_up:
        return ClusterState.TIMEOUT, "interrupted at its time limit"
    if last.signal == signal.SIGTERM and not known:
        return ClusterState.CANCELLED, "told to stop, nobody says why"
    return ClusterState.PREEMPTED, "interrupted"


def _last_sign(attempt: Attempt, folder: RunFolder) -> float:
    progress = folder.progress()
    return max(attempt.started, progress.updated if progress else 0.0)


def _node(job: _Job) -> tuple[str, ...]:
    """Where it ran, of a job of one node: of several, it may be any of them."""
    nodes = job.last.nodes if job.last is not None else ",".join(job.fact.nodes) if job.fact is not None else ""
    return (nodes,) if nodes and not {",", "["} & set(nodes) else ()


def _spent(budget: str, jobs: Sequence[_Job], endings: Sequence[ClusterState], folder: RunFolder) -> int:
    """Jobs that ended so; where their time was up, those alone since the last one that brought the run further."""
    later, spent = newest_step(folder), 0
    for job, ended in zip(reversed(jobs), reversed(endings), strict=True):
        first_step = job.last.first_step if job.last is not None else later
        if _TO_BE_TRIED_AGAIN.get(ended) == budget:
            if budget in _PAY_WITHOUT_PROGRESS and later > first_step:
                break
            spent += 1
        later = first_step
    return spent


def newest_step(folder: RunFolder) -> int:
    """Of the newest checkpoint; 0 where there is none."""
    names = [path.name for path in folder.checkpoints.glob("step-*")] if folder.checkpoints.is_dir() else []
    return max((int(name.removeprefix("step-")) for name in names), default=0)
