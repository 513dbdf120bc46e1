"""Scheduler-independent interface: the `Scheduler` protocol and the records that it exchanges.

A scheduler converts its own job states to `JobState` and `JobFact`, and a `JobScript` to its own syntax. Code outside
its folder does not depend on the kind of scheduler. `SCHEDULERS` (hpc.cluster.schedulers) lists the implementations.
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
    """Error of a scheduler that does not answer, so the state of its jobs is unknown; a retry later may succeed."""


class Refusal(StrEnum):
    """Reason why a scheduler rejected a job."""

    ARRAY = "array"
    """Array with too many tasks."""
    FULL = "full"
    """Submit limit of the user, the account or the cluster; other jobs must end first."""
    ACCOUNT = "account"
    """Invalid account."""
    OTHER = "other"
    """Any other reason."""


class RefusedError(UserError):
    """Error of a scheduler that rejected a job, so that the job does not exist."""

    def __init__(self, kind: Refusal, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class JobState(StrEnum):
    """State of a job, in terms common to all schedulers."""

    PENDING = "PENDING"
    HELD = "HELD"
    """Job in the queue that does not start until it is released."""
    RUNNING = "RUNNING"
    """Job with allocated nodes, including configuring, suspended and completing ones."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    TIMEOUT = "TIMEOUT"
    PREEMPTED = "PREEMPTED"
    NODE_FAILED = "NODE_FAILED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    UNKNOWN = "UNKNOWN"
    """Job that has ended in a state that is unknown while the scheduler's records cannot be read."""


_NOT_OVER = (JobState.PENDING, JobState.HELD, JobState.RUNNING)


@dataclass(frozen=True)
class JobFact:
    """Report of a scheduler on one job, or on one task of an array."""

    job_id: str
    """Job id: `12`, or `12_3` for a task of an array."""
    name: str
    state: JobState
    reason: str = ""
    """Scheduler's reason why the job is pending, or for its end; may be empty."""
    exit_code: int = 0
    signal: int = 0
    """Number of the signal that ended the job, or 0."""
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    """Number of times the job was requeued."""
    started: float | None = None
    """Start in seconds since the epoch, or None for a pending job."""
    ended: float | None = None
    """End in seconds since the epoch, or None if it is unknown."""
    launch_failed: bool = False
    """Whether the job is held because a node failed to launch it."""
    never_starts: bool = False
    """Whether a dependency failed, so the job can never start."""

    @property
    def alive(self) -> bool:
        """Whether the job is in the queue or running."""
        return self.state in _NOT_OVER

    @property
    def over(self) -> bool:
        """Whether the job has ended in a known state."""
        return not self.alive and self.state is not JobState.UNKNOWN


@dataclass(frozen=True)
class Submitter:
    """User and cluster that a job belongs to. A scheduler reports on it only there, and perhaps only to this user."""

    user: str = field(compare=False)
    """Name of the user, for messages."""
    uid: int
    cluster: str
    controller: str
    """Host of the scheduler, since several clusters may have the same name."""

    def __str__(self) -> str:
        return f"{self.user} on cluster {self.cluster} ({self.controller})"


@dataclass(frozen=True)
class JobRequest:
    """Resources and options of one job, in terms common to all schedulers."""

    job_name: str
    walltime_min: int
    nodes: int = 1
    tasks_per_node: int = 1
    """Number of tasks on each node: one per process of the run, or one per run that shares the job."""
    gpus_per_node: int = 0
    gpu_type: str | None = None
    """GPU type to request, or None for any."""
    gpu_option: str = "gpus-per-node"
    """Option that requests GPUs: `gpus-per-node` or `gres`."""
    gpu_counts: tuple[int, ...] = ()
    """Numbers of GPUs that a job may request on a node; if empty, any number is allowed."""
    cpus_per_task: int = 1
    memory_mb: int | None = None
    """Memory on each node; 0 requests all of it, and None the site's default."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    requeue: bool = True
    signal_delay_s: int = 180
    """Time before the time limit at which the job receives the signal to save."""
    runs: int = 1
    """Number of runs that share the job."""
    runs_per_gpu: int = 1
    """Number of these runs that share a GPU."""
    whole_node: bool = False
    """Whether the job is allocated, and charged for, whole nodes."""
    cpu_bind: str | None = None
    """Value of the launcher's CPU binding option, or None for its default."""
    exclude: tuple[str, ...] = ()
    """Nodes on which the job must not run."""
    after: tuple[str, ...] = ()
    """Ids of jobs that must complete before this one starts (`afterok`)."""
    begin_in_s: int | None = None
    """Shortest time that the job stays pending, or None if it may start at once."""
    folder: str | None = None
    """Working directory, or None for the scheduler's default."""
    array_parallelism: int | None = None
    """Largest number of array tasks that run at the same time."""
    extra: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Further options of the scheduler, by name."""
    modules: tuple[str, ...] = ()
    """Modules that the job's shell loads before `setup`."""
    setup: tuple[str, ...] = ()
    """Shell lines that run before Python starts."""
    python: str | None = None
    """Command that starts Python, or None for the interpreter that submits the job."""


class Requeue(StrEnum):
    """Condition for a job to be requeued after its processes have exited."""

    ON_REQUEST = "on request"
    """Requeue if the processes wrote `JobScript.requeue_file`."""
    WHEN_INTERRUPTED = "when interrupted"
    """Requeue if the processes exited with `EXIT_INTERRUPTED`."""
    ONCE = "once"
    """Requeue once if the processes succeeded; if the scheduler refuses, its error is in `JobScript.requeue_file`."""


@dataclass(frozen=True)
class JobScript:
    """Content of a batch script, which each scheduler writes in its own syntax."""

    request: JobRequest
    module: str
    """Python module to run."""
    arguments: tuple[str, ...]
    log: Path
    """Output file of the job; `{task}` in its name is replaced by the index of the array task."""
    code: Path
    """Folder of the code, which comes first on PYTHONPATH."""
    requeue: Requeue
    requeue_file: Path | None = None
    """File of `Requeue`; `{task}` in its name is replaced by the index of the array task, or 0 for a plain job."""
    start_file: Path | None = None
    """File that the script leaves empty right before it starts Python, or with the line of the environment that failed.
    It is also the last argument of the module. `{task}` in its name is replaced likewise."""
    tasks: int = 1
    """Number of tasks of the array; 1 makes a plain job."""
    alone: bool = False
    """Whether Python starts once in the batch script, without the launcher, so that it can submit jobs."""


@dataclass(frozen=True)
class JobPlace:
    """Place of this process in its job; outside of a job, the process is alone."""

    job_id: str
    """Id of the job or of the array."""
    element: int
    """Index of the array task, or 0 for a plain job."""
    step: str
    """Id of the job step, one for each call of the launcher."""
    restart: int
    """Number of times the job was requeued, under the same id."""
    asked: int
    """Number of processes that the job requests."""
    started: int
    """Number of processes that the launcher started in this step, or 0 if it did not start this process."""
    local_started: int
    """Number of these processes on this node."""
    task: int
    """Index of this process in the step, from 0."""
    local_task: int
    """Index of this process on its node, from 0."""
    nodes: str
    """Nodes of the job, in the scheduler's notation."""
    node_count: int
    node: str
    """Host name of this node, under which the others can reach it."""
    node_number: int
    """Index of this node in the job, from 0."""
    memory_mb: int | None
    """Memory of the job on this node, or None if the scheduler does not report it."""


class Scheduler(Protocol):
    """Interface of a scheduler.

    Methods raise `SchedulerUnavailableError` if the scheduler does not answer, and `UserError` if it returns an error.
    """

    reserved_options: frozenset[str]
    """Names of options, with underscores, that follow from other settings, so users must not set them."""
    submit_command: str
    """Program that must be on PATH to submit jobs."""
    cancel_command: str
    """Program that must be on PATH to cancel jobs."""
    launcher: str
    """Program that starts the processes of a job on its nodes."""
    launcher_option: str
    """Option of the launcher for the number of processes."""
    launcher_advice: str
    """Advice for users on how to start a process by the launcher."""
    scratch: tuple[str, ...]
    """Candidates for local scratch folders of a node; may contain variables of the job's shell."""

    def script(self, job: JobScript) -> str:
        """Return the batch script of a job."""

    def submit(self, script: Path) -> str:
        """Submit a batch script and return the id of the job or the array.

        Raises `RefusedError` if the job is rejected. After `SchedulerUnavailableError`, the job may exist nevertheless.
        """

    def place(self) -> JobPlace:
        """Return the place of this process in its job, according to its environment."""

    def why_not(self, script: Path) -> str:
        """Return the reason why the scheduler would reject a batch script, or "" if it would accept it."""

    def facts(self, job_ids: Collection[str]) -> dict[str, JobFact]:
        """Return {job id: fact}, without jobs of which the scheduler has no record."""

    def up_since(self) -> float:
        """Return the scheduler's last start in seconds since the epoch, or 0.0 if it is unknown.

        Jobs that were submitted shortly before it may be lost.
        """

    def submitter(self) -> Submitter:
        """Return the user and the cluster to which jobs belong that this process submits.

        Raises `SchedulerUnavailableError` for every failure of an installed scheduler.
        """

    def find(self, name: str) -> list[str]:
        """Return the ids of this user's jobs with that name, newest first, with one id for an array."""

    def cancel(self, job_ids: Collection[str]) -> None:
        """Cancel jobs; a job that has already ended is not an error."""

    def release(self, job_id: str) -> None:
        """Release a held job, so that it can start."""

    def signal(self, job_id: str, name: str) -> None:
        """Send a signal, e.g. `USR2`, to all processes of a running job."""

    def wait_for_any(self, job_id: str, others: Collection[str]) -> None:
        """Make a pending job depend on the end of any of the others (`afterany`).

        With no others, its dependency is removed, and it starts at its begin time.
        """

    def examine(self, diagnosis: "Diagnosis") -> None:
        """Compare the profile of a diagnosis with the scheduler's reports on a login node.

        Raises `UserError` if there is no scheduler or it does not answer.
        """
