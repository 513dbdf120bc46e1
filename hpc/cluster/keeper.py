"""Keeper: a small job that makes the next pass over a sweep once any of its jobs has ended.

Each pass, made by a user or by a keeper, submits a keeper unless the sweep is over. A keeper retries every minute
if its pass fails or cannot submit the next keeper. If a keeper is lost, the next `fgssl sync` submits another one.
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
"""Time for which a keeper retries its pass before its job is requeued."""
PLACES = 2
"""Number of jobs that keepers have in the queue: the running one and the next."""


def keeper_request(sweep_name: str, out: Path, profile: Profile) -> tuple[JobRequest | None, str]:
    """Return the keeper's resources and "", or None and the reason why the sweep can have no keeper."""
    if profile.submit_from_jobs != "allowed":
        known = "may not" if profile.submit_from_jobs == "forbidden" else "may perhaps not"
        return None, f"jobs {known} submit jobs there ({profile.cite('submit_from_jobs')})"
    if profile.environment.container is not None:
        return None, "the scheduler's commands are not in the container"
    partition = profile.cpu_partition or profile.partition
    most, _ = profile.limit("submitted", partition)
    if most is not None and most <= PLACES:
        return None, f"keepers need {PLACES} jobs in the queue, and the site allows {most} in all"
    shortest = profile.limit("shortest_walltime_min", partition)[0]
    job = JobSettings(walltime_min=max(_WALLTIME_MIN, shortest or 0))
    folder = hashlib.sha256(str(out.absolute()).encode()).hexdigest()[:8]
    try:
        return request(job, profile, False, f"{sweep_name}-keeper-{folder}"), ""
    except SettingsError as error:
        return None, str(error)
