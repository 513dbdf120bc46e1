"""Jobs that were submitted for each run: what orders, launches and the scheduler report on them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpc.cluster.job_store import Launch, Order
from hpc.cluster.schedulers.scheduler import JobFact, JobState, Submitter

_UNSAVED_S = 120.0
"""Age up to which a job may be lost when the scheduler crashes and is restarted."""


@dataclass(frozen=True)
class Submission:
    """Job that was submitted for a run."""

    order: Order
    element: int
    submission: int
    fact: JobFact | None
    last: Launch | None
    """Newest launch of the run in this job, or None if it never started."""
    start: str | None
    """Text that its batch script left: empty once its environment was set up, or the reason why it was not."""
    forgotten: bool
    """Whether a restart of the scheduler may have lost the job."""
    elsewhere: bool = False
    """Whether it belongs to another user or cluster, so the scheduler here does not report on it."""


def submissions(
    orders: Iterable[Order],
    launches: Iterable[Launch],
    facts: Mapping[str, JobFact] | None,
    up_since: float,
    here: Submitter | None,
) -> dict[str, list[Submission]]:
    """Return {run name: its jobs}, in order of submission."""
    newest: dict[tuple[str, int, int], Launch] = {}
    for launch in launches:
        key = launch.token, launch.element, launch.slot
        if key not in newest or newest[key].restart < launch.restart:
            newest[key] = launch
    jobs: dict[str, list[Submission]] = {}
    for order in orders:
        if order.abandoned:
            continue
        known = (facts or {}) if order.is_of(here) else {}
        for number, element in enumerate(order.elements):
            fact = known.get(order.job_id_of(number) or "")
            # A scheduler that lost jobs in a crash assigns their ids to other jobs.
            another = fact is not None and fact.name not in ("", order.job_name)
            fact = None if another else fact
            forgotten = another or 0 < up_since - order.created < _UNSAVED_S
            if number in order.canceled and (fact is None or fact.state is JobState.UNKNOWN):
                fact = JobFact(order.job_id_of(number) or "", order.job_name, JobState.CANCELED)
            for slot, (run, submission) in enumerate(zip(element.runs, element.submissions, strict=True)):
                last = newest.get((order.token, number, slot))
                start, elsewhere = order.starts.get(number), not order.is_of(here)
                jobs.setdefault(run, []).append(
                    Submission(order, number, submission, fact, last, start, forgotten, elsewhere)
                )
    for of_run in jobs.values():
        of_run.sort(key=lambda job: job.submission)
    return jobs
