"""Schedulers that a site's profile can name."""

import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpc.cluster.schedulers.scheduler import Scheduler

SCHEDULERS = {"slurm": "hpc.cluster.schedulers.slurm:Slurm"}
"""Name in a profile (`scheduler`) to a class as `module:attribute`, which is imported when it is chosen."""


def build_scheduler(name: str) -> "Scheduler":
    """Return the scheduler of that name."""
    scheduler: Scheduler = pkgutil.resolve_name(SCHEDULERS[name])()
    return scheduler
