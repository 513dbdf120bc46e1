"""Actions, which `decide` returns and `apply` executes, and the progress of a pass so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpc.cluster.job_store import Element, Order
from hpc.cluster.schedulers.scheduler import JobRequest


@dataclass(frozen=True)
class PlannedOrder:
    """Order to submit: a job, or a job array."""

    request: JobRequest
    needs: tuple[str, ...]
    """Runs whose jobs must complete first (`afterok`); each is in the queue or in an earlier order of this pass."""
    elements: tuple[Element, ...]

    @property
    def kind(self) -> str:
        """Key that is equal for orders whose jobs can be tasks of one array."""
        return repr((self.request, self.needs))


class Action:
    """Base class of all actions."""


@dataclass(frozen=True)
class NoteJobId(Action):
    """Record of a job id that was found by the job's name."""

    order: Order
    job_id: str


@dataclass(frozen=True)
class NoteCanceled(Action):
    """Record of an order's canceled elements, which the scheduler reports for some minutes only."""

    order: Order
    elements: frozenset[int]


@dataclass(frozen=True)
class Abandon(Action):
    """Abandonment of an order, so that its runs can be submitted again. If its job starts nevertheless, it exits."""

    order: Order
    never_starts: bool = False
    """Whether its job is canceled because a dependency failed; otherwise the order never reached the scheduler."""


@dataclass(frozen=True)
class CancelJobs(Action):
    """Cancellation of jobs."""

    job_ids: tuple[str, ...]


@dataclass(frozen=True)
class Release(Action):
    """Release of a job that is held after a failed launch."""

    job_id: str
    label: str


@dataclass(frozen=True)
class NoteKeeper(Action):
    """Record of a keeper's job id that was found by its name."""

    job_id: str


@dataclass(frozen=True)
class LeaveKeeper(Action):
    """Submission of a keeper. It starts after `keeper_rest_s`, unless `KeeperWaitsFor` adds dependencies."""


@dataclass(frozen=True)
class LackKeeper(Action):
    """Report that no keeper is in the queue."""

    why: str


@dataclass(frozen=True)
class DismissKeeper(Action):
    """Cancellation of the pending keeper."""

    job_id: str
    for_room: bool = False
    """Whether it occupies the only place that the user may have in the queue."""


@dataclass(frozen=True)
class KeeperWaitsFor(Action):
    """Dependency of the keeper: it starts once any of these jobs has ended (`afterany`)."""

    job_id: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Submit(Action):
    """Submission of an order; `apply` replaces `PlannedOrder.needs` with the job ids of its dependencies."""

    planned: PlannedOrder
    excluded: tuple[str, ...] = ()
    """Nodes on which jobs were lost and which are excluded."""


@dataclass(frozen=True)
class PrintLine(Action):
    """Line of the pass's report to users."""

    line: str


@dataclass(frozen=True)
class Progress:
    """Submissions, rejections and report of a pass so far."""

    lines: tuple[str, ...] = ()
    """Report to users."""
    ordered: int = 0
    """Number of jobs and array tasks that were submitted."""
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Run name to the id of the job that was submitted for it."""
    keeper: str | None = None
    """Job id of the keeper that was submitted, or None."""
    keeper_dismissed: bool = False
    """Whether the keeper was canceled to make room for a job."""
    no_keeper: bool = False
    """Whether a keeper is wanted but none is in the queue."""
    at_most: Mapping[str, int] = field(default_factory=dict)
    """`PlannedOrder.kind` to the largest array size that has not been rejected yet."""
    full: frozenset[str | None] = frozenset()
    """Partitions whose queue accepts no more jobs of this user."""
    all_nodes_needed: bool = False
    """Whether the scheduler rejected an order because nodes were excluded from it."""
    refused: tuple[str, ...] = ()
    """Orders that the scheduler will never accept as they are, with its messages."""
    hopeless: Mapping[str, str] = field(default_factory=dict)
    """Run name to the scheduler's message, for the runs of rejected orders."""
    unanswered: bool = False
    """Whether the scheduler did not answer a submission. It may have accepted the job, so the order stays."""
