"""An observation: everything that a pass decides on, read once and frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpc.cluster.job_store import Launch, Order, UserRequests
from hpc.cluster.schedulers.scheduler import JobFact
from hpc.cluster.status import RunStatus


@dataclass(frozen=True)
class Observation:
    """A sweep at one moment."""

    at: float
    """Seconds since the epoch."""
    runs: Mapping[str, RunStatus]
    """By run, in an order in which needs come first."""
    orders: Sequence[Order] = ()
    launches: Sequence[Launch] = ()
    requests: UserRequests = field(default_factory=UserRequests)
    facts: Mapping[str, JobFact] = field(default_factory=dict)
    """By job id; of the jobs of runs that are not done, and those before them."""
    silence: str = ""
    """Why the scheduler did not answer; empty if it did."""
    found: Mapping[str, str | None] = field(default_factory=dict)
    """Token of an order whose job id was never noted, to the id that the scheduler has; None: it has none."""


@dataclass(frozen=True)
class KeeperStatus:
    """The keeper jobs in the queue."""

    waiting: str | None = None
    """Id of the one that comes."""
    noted: bool = True
    """Whether the job store has that id."""
    held: tuple[str, ...] = ()
    """Ids of those that are held and so never come."""
    silence: str = ""
    """Why the scheduler did not answer; empty if it did."""
