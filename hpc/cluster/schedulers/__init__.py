"""Schedulers that a site's profile can name."""

from typing import TYPE_CHECKING

from fgssl.registries import Registry

if TYPE_CHECKING:
    from hpc.cluster.schedulers.scheduler import Scheduler

SCHEDULERS = Registry(
    f"{__file__}: SCHEDULERS",
    {
        "slurm": "hpc.cluster.schedulers.slurm:Slurm",
    },
)
"""Name in a profile (`scheduler`) to a class as `module:attribute`, which is imported when it is chosen."""


def build_scheduler(name: str) -> "Scheduler":
    """Return the scheduler of that name."""
    scheduler: Scheduler = SCHEDULERS.load(name)()
    return scheduler
