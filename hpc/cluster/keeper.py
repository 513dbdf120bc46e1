"""A small job that makes the next pass over a sweep once some job has ended, so that nobody has to.

Each pass, by a person or by a keeper, leaves one in the queue while there is something to wait for. A keeper whose pass
does not succeed, or that can leave no other, tries again every minute. Should it be lost all the same, the next
`fgssl sync` by hand leaves another.
"""

import hashlib
from pathlib import Path

from fgssl.errors import SettingsError
from hpc.cluster.schedulers.scheduler import JobRequest
from hpc.cluster.site.job_settings import JobSettings
from hpc.cluster.site.profile import Profile
from hpc.cluster.site.requests import request

_WALLTIME_MIN = 60
KEEPER_PATIENCE_S = 45 * 60.0
"""How long a keeper tries a pass that does not succeed before it goes back to the queue."""
PLACES = 2
"""Places in the queue: of the keeper at work, and of the next one."""


def keeper_request(sweep_name: str, out: Path, profile: Profile) -> tuple[JobRequest | None, str]:
    """Return the keeper's resources; None, and why, where jobs may not submit jobs or the queue has no place for it."""
    if profile.submit_from_jobs != "allowed":
        known = "may not" if profile.submit_from_jobs == "forbidden" else "may perhaps not"
        return None, f"jobs {known} submit jobs there ({profile.cite('submit_from_jobs')})"
    if profile.environment.container is not None:
        return None, "the scheduler's commands are not in the container"
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
