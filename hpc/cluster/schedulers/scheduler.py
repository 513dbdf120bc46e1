"""The contract between a sweep and a scheduler: what a scheduler reports of jobs and how it is given them.

A scheduler translates its own words into `JobState` and `JobFact` and writes a `JobScript` in its own syntax. Nothing
outside its folder depends on which one it is. `SCHEDULERS` (hpc.cluster.schedulers) lists them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fgssl.errors import UserError

if TYPE_CHECKING:
    from hpc.cluster.doctor.diagnosis import Diagnosis


class SchedulerUnavailableError(UserError):
    """The scheduler does not answer now, so no job is known to be gone: ask again later."""


class Refusal(StrEnum):
    """Why a scheduler took no job."""

    ARRAY = "array"
    """The array has too many tasks."""
    FULL = "full"
    """The user, the account or the cluster has as many jobs as it may: some must end first."""
    ACCOUNT = "account"
    OTHER = "other"


class RefusedError(UserError):
    """The scheduler took no job."""

    def __init__(self, kind: Refusal, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class JobState(StrEnum):
    """State of a job in every scheduler's terms."""

    PENDING = "PENDING"
    HELD = "HELD"
    """In the queue, but it does not start until it is released."""
    RUNNING = "RUNNING"
    """On its nodes, whether it starts, computes, is suspended or ends."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    TIMEOUT = "TIMEOUT"
    PREEMPTED = "PREEMPTED"
    NODE_FAILED = "NODE_FAILED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    UNKNOWN = "UNKNOWN"
    """Over, but how it ended is not known while the scheduler's records cannot be read."""


_NOT_OVER = (JobState.PENDING, JobState.HELD, JobState.RUNNING)


@dataclass(frozen=True)
class JobFact:
    """A scheduler's report of one job, or of one task of an array."""

    job_id: str
    """`12`, or `12_3` of an array."""
    name: str
    state: JobState
    reason: str = ""
    """Why it waits or how it ended, in the scheduler's words; may be empty."""
    exit_code: int = 0
    signal: int = 0
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    """How often it went back to the queue."""
    started: float | None = None
    """Seconds since the epoch, as `ended`."""
    ended: float | None = None
    launch_failed: bool = False
    """Whether it is held because a node could not start it."""
    never_starts: bool = False
    """Whether it waits for a job that did not end well."""

    @property
    def alive(self) -> bool:
        """Whether it is in the queue or running."""
        return self.state in _NOT_OVER

    @property
    def over(self) -> bool:
        """Whether it is known how it ended."""
        return not self.alive and self.state is not JobState.UNKNOWN


@dataclass(frozen=True)
class JobRequest:
    """Resources and options of one job, for any scheduler."""

    job_name: str
    walltime_min: int
    nodes: int = 1
    tasks_per_node: int = 1
    """One for each process of a run, or one for each of the runs that share the job."""
    gpus_per_node: int = 0
    gpu_type: str | None = None
    """Name of the GPUs there; None: any."""
    gpu_option: str = "gpus-per-node"
    gpu_counts: tuple[int, ...] = ()
    """The only numbers of GPUs that a job may ask for on a node; empty: any."""
    cpus_per_task: int = 1
    memory_mb: int | None = None
    """Memory of a node; 0 is all of it, None leaves it to the site."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    requeue: bool = True
    signal_delay_s: int = 180
    runs: int = 1
    """Runs that share the job."""
    runs_per_gpu: int = 1
    whole_node: bool = False
    """Whether the job has, and pays for, whole nodes."""
    cpu_bind: str | None = None
    exclude: tuple[str, ...] = ()
    """Nodes."""
    after: tuple[str, ...] = ()
    """Ids of jobs that must end well before this one starts."""
    begin_in_s: int | None = None
    """How long it waits at least; None: it may start at once."""
    folder: str | None = None
    """Working directory; None leaves it to the scheduler."""
    array_parallelism: int | None = None
    extra: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Further options, in the scheduler's own words."""
    modules: tuple[str, ...] = ()
    """Modules that its shell loads, before `setup`."""
    setup: tuple[str, ...] = ()
    """Shell lines before Python starts."""
    python: str | None = None
    """Command that starts Python; None: the one that submits."""


class Requeue(StrEnum):
    """When a job goes back to the queue after its processes have left."""

    ON_REQUEST = "on request"
    """Where they left `JobScript.requeue_file`."""
    WHEN_INTERRUPTED = "when interrupted"
    """Where they ended with `EXIT_INTERRUPTED`."""
    ONCE = "once"
    """Once, where they ended well; `JobScript.requeue_file` gets the error if the scheduler refuses."""


@dataclass(frozen=True)
class JobScript:
    """The work of a job, for a scheduler to write down in its own syntax."""

    request: JobRequest
    module: str
    """Python module to run."""
    arguments: tuple[str, ...]
    log: Path
    """File for what it prints; with several tasks, `{task}` in its name stands for the task's number."""
    code: Path
    """Folder that precedes all others on PYTHONPATH."""
    requeue: Requeue
    requeue_file: Path | None = None
    """See `Requeue`; `{task}` stands for the number of the array's task, 0 for a plain job."""
    tasks: int = 1
    """Tasks of the array; 1 makes a plain job."""
    alone: bool = False
    """Whether Python starts once, outside of what the scheduler starts for every process, so that it can submit."""


@dataclass(frozen=True)
class JobPlace:
    """The part of a job that this process is; outside of a job it is alone."""

    job_id: str
    """Id of the job, or of the array."""
    element: int
    """Task of the array; 0 of a plain job."""
    step: str
    """Tells the steps of a job apart, which the launcher starts."""
    restart: int
    """How often the scheduler has put the job back in the queue; it keeps its id."""
    asked: int
    """Processes that the job asks for."""
    started: int
    """Processes that the launcher started together in this step; 0: it did not start this one."""
    local_started: int
    """Those of them on this node."""
    task: int
    """This process among them, from 0."""
    local_task: int
    """This process among those on its node, from 0."""
    nodes: str
    """All nodes of the job, in the scheduler's words."""
    node_count: int
    node: str
    """This node's name, by which the others reach it."""
    node_number: int
    """This node among the job's, from 0."""
    memory_mb: int | None
    """Memory of the job on this node; None: the scheduler does not say."""


class Scheduler(Protocol):
    """A scheduler. Methods raise `SchedulerUnavailableError`, or `UserError` where the scheduler refuses."""

    reserved_options: frozenset[str]
    """Names of its options, with underscores, that follow from other settings and so are not taken from users."""
    submit_command: str
    """Program that must be on PATH to submit."""
    cancel_command: str
    """Program that must be on PATH to cancel."""
    launcher: str
    """Program that starts the processes of a job on its nodes."""
    launcher_option: str
    """Its option for their number."""
    launcher_advice: str
    """How a process is started by it."""
    scratch: tuple[str, ...]
    """Folders on a node that a job may fill, as its shell names them."""

    def script(self, job: JobScript) -> str:
        """Return the batch script of a job."""

    def submit(self, script: Path) -> str:
        """Submit a batch script and return the id of the job, or of the array.

        Raises `RefusedError`; after `SchedulerUnavailableError` there may be a job.
        """

    def place(self) -> JobPlace:
        """Return where in its job this process is, by its environment."""

    def why_not(self, script: Path) -> str:
        """Return why the scheduler would refuse this batch script; empty if it would take it."""

    def facts(self, job_ids: Collection[str]) -> dict[str, JobFact]:
        """Return facts by id, without the jobs that the scheduler has forgotten, or never knew."""

    def up_since(self) -> float:
        """Return when the scheduler was last started (seconds since the epoch), 0.0 if it does not say.

        It may have lost what came shortly before.
        """

    def find(self, name: str) -> list[str]:
        """Return ids of this user's jobs of that name (one for an array), the newest first."""

    def cancel(self, job_ids: Collection[str]) -> None:
        """Cancel jobs; those that are over already are no error."""

    def release(self, job_id: str) -> None:
        """Let a held job start."""

    def signal(self, job_id: str, name: str) -> None:
        """Send a signal (`USR2`) to all processes of a running job."""

    def wait_for_any(self, job_id: str, others: Collection[str]) -> None:
        """Keep a waiting job from starting until one of the others has ended, however it does; none: at its time."""

    def examine(self, diagnosis: "Diagnosis") -> None:
        """Compare the diagnosis' profile with what the scheduler reports on a login node.

        Raises `UserError` where there is none, or it does not answer.
        """
