"""A small job that makes the next pass over a sweep once some job has ended, so that nobody has to.

Each pass, by a person or by a keeper, leaves one in the queue while there is something to wait for. A keeper whose pass
does not succeed, or that can leave no other, tries again every minute. Should it be lost all the same, the next
`fgssl sync` by hand leaves another.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from fgssl.errors import SettingsError, UserError
from hpc.cluster.cluster_sweep import ClusterSweep
from hpc.cluster.job_store import Books
from hpc.cluster.schedulers.scheduler import UNKNOWN, Scheduler
from hpc.cluster.site.job_settings import JobSettings
from hpc.cluster.site.profile import Profile
from hpc.cluster.site.requests import JobRequest, request
from hpc.cluster.states import LIVE, View
from hpc.cluster.submission import Submission

_WALLTIME_MIN = 60
KEEPER_PATIENCE_S = 45 * 60.0
"""With a pass that does not succeed; then it goes back to the queue."""
_MOST_WAITED_FOR = 50
"""Jobs that it waits for; any of them starts it."""


PLACES = 2
"""In the queue: of the one at work, and of the next."""


def keeper_request(sweep_name: str, out: Path, profile: Profile) -> tuple[JobRequest | None, str]:
    """What it asks for; None, and why, where the site lets jobs submit none or has no place for it."""
    if profile.submit_from_jobs != "allowed":
        known = "may not" if profile.submit_from_jobs == "forbidden" else "may perhaps not"
        return None, f"jobs {known} submit jobs there ({profile.cite('submit_from_jobs')})"
    if profile.environment.container is not None:
        return None, "Slurm's commands are not in the container"
    partition = profile.cpu_partition or profile.partition
    most, _ = profile.limit("submitted", partition)
    if most is not None and most <= PLACES:
        return None, f"it would need {PLACES} of the {most} jobs that may be in the queue"
    shortest = profile.limit("shortest_walltime_min", partition)[0]
    job = JobSettings(walltime_min=max(_WALLTIME_MIN, shortest or 0))
    folder = hashlib.sha256(str(out.absolute()).encode()).hexdigest()[:8]
    try:
        return request(job, profile, False, f"{sweep_name}-keeper-{folder}"), ""
    except SettingsError as error:
        return None, str(error)


def leave_keeper(
    sweep: ClusterSweep, views: Mapping[str, View], books: Books, scheduler: Scheduler, submission: Submission
) -> str:
    """See to it that one waits, if there is anything to wait for; what people should know of it, or nothing.

    It comes after a while, whatever happens, until `let_keeper_wait` tells it for what.
    """
    wanted = any(view.state in LIVE or view.to_submit or view.undecided for view in views.values())
    if sweep.keeper is None or not wanted:
        return ""
    try:
        if _waiting(sweep.keeper, books, scheduler) is None:
            begin = {"begin": f"now+{sweep.keeper_rest_s}"}
            asked = dataclasses.replace(sweep.keeper, extra={**sweep.keeper.extra, **begin})
            books.note_keeper(submission.submit_keeper(asked))
    except UserError as error:
        return f"no keeper waits: {error}; `fgssl sync` goes on"
    return ""


def let_keeper_wait(sweep: ClusterSweep, views: Mapping[str, View], books: Books, scheduler: Scheduler) -> None:
    """Until any of the sweep's jobs has ended."""
    if sweep.keeper is not None and (waiting := _waiting(sweep.keeper, books, scheduler)) is not None:
        alive = dict.fromkeys(view.job_id for view in views.values() if view.state in LIVE and view.job_id)
        scheduler.wait_for_any(waiting, list(alive)[:_MOST_WAITED_FOR])


def dismiss_keeper(sweep: ClusterSweep, books: Books, scheduler: Scheduler) -> None:
    """There is nothing more to wait for."""
    if sweep.keeper is not None and (waiting := _waiting(sweep.keeper, books, scheduler)) is not None:
        scheduler.cancel([waiting])


def _waiting(keeper: JobRequest, books: Books, scheduler: Scheduler) -> str | None:
    """The one in the queue, also if its number was never noted; one that is held will never come and is ended."""
    noted = books.keeper()
    # By its name only where the noted one does not wait: that asks the database too.
    for known in (lambda: [noted] if noted is not None else [], lambda: scheduler.find(keeper.job_name)):
        for job_id, fact in scheduler.facts(known()).items():
            if fact.name != keeper.job_name or fact.started is not None or fact.over or fact.state == UNKNOWN:
                continue
            if fact.held:
                scheduler.cancel([job_id])
                continue
            if job_id != noted:
                books.note_keeper(job_id)
            return job_id
    return None
