"""What a scheduler says of jobs and is told to do with them: the one small contract that a pass over a sweep relies on.

`slurm.py` keeps it with Slurm's commands.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from fgssl.errors import UserError
from hpc.cluster.site.profile import LimitSettings

UNKNOWN = "UNKNOWN"
OVER = "BOOT_FAIL|CANCELLED|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED|REVOKED|TIMEOUT"
HELD = ("REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")


class SchedulerUnavailableError(UserError):
    """It does not answer now, so nothing is known of any job, least of all that it is gone: ask again later."""


class Refusal(StrEnum):
    """Why it took no job."""

    ARRAY = "array"
    """An index over MaxArraySize - 1."""
    FULL = "full"
    """The user, the account or the cluster has as many jobs as it may: some must end first."""
    ACCOUNT = "account"
    UNAVAILABLE = "unavailable"
    """The controller did not answer. It may have taken the job all the same: look for it by its name."""
    OTHER = "other"


class RefusedError(UserError):
    """There is no job (but Slurm may list one of its name, FAILED without a node)."""

    def __init__(self, kind: Refusal, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def full(self) -> bool:
        """Whether there is no room now, and will be."""
        return self.kind is Refusal.FULL


@dataclass(frozen=True)
class JobFact:
    """A job, or a task of an array, as the scheduler tells it."""

    job_id: str
    """`12`, or `12_3` of an array."""
    name: str
    state: str
    """Slurm's word. UNKNOWN: the controller has forgotten it, so it is over, and the database does not answer now."""
    reason: str
    """Why it waits or how it ended, in Slurm's words; may be empty."""
    exit_code: int = 0
    signal: int = 0
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    """How often it went back to the queue."""
    started: float | None = None
    """Seconds since the epoch, as `ended`."""
    ended: float | None = None
    time_limit_min: int | None = None
    """None: unlimited, or not yet chosen."""
    source: Literal["squeue", "sacct", ""] = ""

    @property
    def over(self) -> bool:
        return re.fullmatch(OVER, self.state) is not None

    @property
    def held(self) -> bool:
        """In the queue, but it will not start until it is released."""
        return self.state in HELD or (self.state == "PENDING" and "held" in self.reason.lower())


class Scheduler(Protocol):
    """Every method raises `SchedulerUnavailableError`, or `UserError` where the scheduler refuses."""

    def submit(self, script: Path) -> str:
        """The id of the job, or of the array. Raises `RefusedError`; where it was unavailable there may be a job."""

    def facts(self, job_ids: Collection[str]) -> dict[str, JobFact]:
        """By id; without the jobs that the scheduler has forgotten, or never knew, or whose end nobody noted."""

    def up_since(self) -> float:
        """Seconds since the epoch: when the scheduler was last started; it may have lost what came shortly before.

        0.0 where it does not say.
        """

    def find(self, name: str) -> list[str]:
        """This user's jobs of that name, by the ids that sbatch gave (one for an array), the newest first."""

    def cancel(self, job_ids: Collection[str]) -> None:
        """Jobs that are over already are no error."""

    def release(self, job_id: str) -> None:
        """Let a held job start."""

    def signal(self, job_id: str, name: str) -> None:
        """Send a signal (`USR2`) to all processes that srun started in a running job."""

    def wait_for_any(self, job_id: str, others: Collection[str]) -> None:
        """Let a job that waits not begin before one of the others has ended, however it does; of none: at its time."""

    def limits(self, partition: str | None, account: str | None, qos: str | None) -> LimitSettings:
        """Of one user's jobs there, as far as the scheduler tells them; None: the default one."""
