"""Actions, decided by `decide` and applied by `apply`, and the progress of a pass, which the next decision follows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpc.cluster.job_store import Element, Order
from hpc.cluster.schedulers.scheduler import JobRequest


@dataclass(frozen=True)
class PlannedOrder:
    """An order to submit: a job, or the tasks of an array."""

    request: JobRequest
    needs: tuple[str, ...]
    """Runs whose jobs, in the queue or of an order before this one, must end well before this begins."""
    elements: tuple[Element, ...]

    @property
    def kind(self) -> str:
        """Equal for orders that can be parts of one array."""
        return repr((self.request, self.needs))


class Action:
    """Something to do for a sweep."""


@dataclass(frozen=True)
class NoteJobId(Action):
    """Note the id of a job that was found by its name."""

    order: Order
    job_id: str


@dataclass(frozen=True)
class NoteCanceled(Action):
    """Note which elements of an order were seen canceled, since the scheduler forgets that."""

    order: Order
    elements: frozenset[int]


@dataclass(frozen=True)
class Abandon(Action):
    """Abandon an order, so that its runs are ordered anew. Should its job start after all, that does nothing."""

    order: Order
    never_starts: bool = False
    """Whether its job waits for one that did not end well, and is canceled; else it never reached the scheduler."""


@dataclass(frozen=True)
class CancelJobs(Action):
    """Cancel jobs."""

    job_ids: tuple[str, ...]


@dataclass(frozen=True)
class Release(Action):
    """Let a job start that is held after a failed launch."""

    job_id: str
    label: str


@dataclass(frozen=True)
class NoteKeeper(Action):
    """Note the id of a keeper that was found by its name."""

    job_id: str


@dataclass(frozen=True)
class LeaveKeeper(Action):
    """Put a keeper into the queue; it comes after a while, whatever happens, until `KeeperWaitsFor`."""


@dataclass(frozen=True)
class LackKeeper(Action):
    """Report that no keeper waits."""

    why: str


@dataclass(frozen=True)
class DismissKeeper(Action):
    """Take the keeper out of the queue."""

    job_id: str
    for_room: bool = False
    """Whether it has the only place that the queue has for this user."""


@dataclass(frozen=True)
class KeeperWaitsFor(Action):
    """Let the keeper begin once any of these jobs has ended."""

    job_id: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Submit(Action):
    """Submit an order; ids of the jobs that it waits for follow from `PlannedOrder.needs` when it is submitted."""

    planned: PlannedOrder
    excluded: tuple[str, ...] = ()
    """Nodes that lost jobs."""


@dataclass(frozen=True)
class PrintLine(Action):
    """Print a line of the pass' report to users."""

    line: str


@dataclass(frozen=True)
class Progress:
    """Results and refusals of a pass so far."""

    lines: tuple[str, ...] = ()
    """For users."""
    ordered: int = 0
    """Jobs and tasks of arrays that were submitted."""
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Run to the id of the job that was submitted for it."""
    keeper: str | None = None
    """Id of the keeper that was submitted."""
    keeper_dismissed: bool = False
    """Whether it was taken out of the queue for room."""
    no_keeper: bool = False
    """Whether one should wait and none does."""
    at_most: Mapping[str, int] = field(default_factory=dict)
    """`PlannedOrder.kind` to the length of array that was not refused yet."""
    full: frozenset[str | None] = frozenset()
    """Partitions whose queue takes no more."""
    all_nodes_needed: bool = False
    """Whether orders were refused without the nodes that lost jobs."""
    refused: tuple[str, ...] = ()
    """Orders that the scheduler will never take as they are, with its words."""
    hopeless: Mapping[str, str] = field(default_factory=dict)
    """Runs of those orders, with the scheduler's words."""
    unanswered: bool = False
    """Whether a submission was not answered. The scheduler may have taken it, so its order stays."""
