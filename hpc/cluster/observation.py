"""Observation of a sweep: the input of all decisions of a pass, read once and immutable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpc.cluster.job_store import Launch, Order, UserRequests
from hpc.cluster.schedulers.scheduler import JobFact
from hpc.cluster.status import RunStatus


@dataclass(frozen=True)
class Observation:
    """State of a sweep at one moment."""

    at: float
    """Seconds since the epoch."""
    runs: Mapping[str, RunStatus]
    """Run name to status, in topological order of their needs."""
    orders: Sequence[Order] = ()
    launches: Sequence[Launch] = ()
    requests: UserRequests = field(default_factory=UserRequests)
    facts: Mapping[str, JobFact] = field(default_factory=dict)
    """Job id to the scheduler's report, for runs that are not done and their dependencies."""
    silence: str = ""
    """Error of a scheduler that did not answer; empty if it did."""
    found: Mapping[str, str | None] = field(default_factory=dict)
    """Token of an order without a recorded job id, to the id that the scheduler reports; None if it has no such job."""


@dataclass(frozen=True)
class KeeperStatus:
    """Keeper jobs in the queue."""

    waiting: str | None = None
    """Job id of the pending keeper, or None."""
    noted: bool = True
    """Whether the job store has recorded that id."""
    held: tuple[str, ...] = ()
    """Job ids of held keepers, which would never start."""
    silence: str = ""
    """Error of a scheduler that did not answer; empty if it did."""
