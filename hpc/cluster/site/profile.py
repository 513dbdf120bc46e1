"""Profile of a site (`slurm/*.yaml`): its hardware, limits, billing and environment.

An empty value is unknown, so it is not checked. The command line overrides a file (`cluster.account=OPEN-12-34`).
`unverified` lists the dotted keys of values that were confirmed neither on the site nor in its documentation.
"""

import dataclasses
import re
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from fgssl.settings.declare import PositiveFloat, PositiveInt, settings
from fgssl.settings.layers import overlaps
from fgssl.settings.validation import unknown
from hpc.cluster.schedulers import SCHEDULERS

Permission = Literal["allowed", "forbidden", "unknown"]


def _no_clock(value: object) -> object:
    if isinstance(value, str) and ":" in value:
        raise ValueError(f"{value!r} is not allowed: must be a number of minutes, e.g. 240 for four hours")
    return value


Minutes = Annotated[PositiveInt, BeforeValidator(_no_clock)]


def _is_scheduler(name: str) -> str:
    if name not in SCHEDULERS:
        raise ValueError(unknown(name, list(SCHEDULERS), what="scheduler"))
    return name


SchedulerName = Annotated[str, AfterValidator(_is_scheduler)]


@settings
class SourceSettings:
    """Document from which values of a profile were taken."""

    document: str
    """Title of the document."""
    snapshot: str
    """Date of the copy that was read, or the commit if the document is in a repository."""


@settings
class AccountSettings:
    """Site's rules for `--account`."""

    required: bool = False
    """Whether the scheduler rejects jobs without an account."""
    pattern: str | None = None
    """Regular expression that matches every account's whole name."""
    example: str = "my-account"
    """Account name for error messages; must match `pattern`."""

    def fits(self, name: str) -> bool:
        """Return whether an account name matches the pattern."""
        return self.pattern is None or re.fullmatch(self.pattern, name) is not None

    def __post_init__(self) -> None:
        try:
            if not self.fits(self.example):
                raise ValueError(f"example {self.example!r} does not match pattern {self.pattern!r}")
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} must be a regular expression: {error}") from None


@settings
class LimitSettings:
    """Limits on one user's jobs, where each task of an array counts as a job."""

    submitted: PositiveInt | None = None
    """Largest number of pending and running jobs."""
    running: PositiveInt | None = None
    """Largest number of running jobs."""
    array_tasks: PositiveInt | None = None
    """Largest number of tasks of an array."""
    array_index: PositiveInt | None = None
    """Largest index in an array: Slurm's MaxArraySize - 1."""
    nodes: PositiveInt | None = None
    """Largest number of nodes of one job."""
    longest_walltime_min: Minutes | None = None
    """Longest time limit of a job in minutes."""
    shortest_walltime_min: Minutes | None = None
    """Shortest time limit of a job in minutes."""

    def __post_init__(self) -> None:
        shortest, longest = self.shortest_walltime_min, self.longest_walltime_min
        if shortest is not None and longest is not None and shortest > longest:
            raise ValueError(f"shortest_walltime_min {shortest} must not exceed longest_walltime_min {longest}")


@settings
class PartitionSettings:
    """Partition of a site."""

    gpus: bool = True
    """Whether its nodes have GPUs, as in `node`, or none, as in `cpu_node`."""
    whole_node: bool = False
    """Whether jobs are always allocated, and charged for, whole nodes (OverSubscribe=EXCLUSIVE)."""
    preemptible: bool = False
    """Whether other jobs may preempt its jobs."""
    grace_s: PositiveInt | None = None
    """Time in seconds between the first signal of a preemption and SIGKILL (GraceTime)."""
    free: bool = False
    """Whether its jobs are free of charge."""
    limits: LimitSettings = LimitSettings()
    """Limits that override the site's."""


@settings
class GpuSettings:
    """GPUs of a site's nodes."""

    vendor: Literal["cuda", "rocm"] = "cuda"
    """Platform of the GPUs: `cuda` (NVIDIA) or `rocm` (AMD)."""
    option: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    """Option that requests GPUs."""
    type: str | None = None
    """GPU type, as in `--gpus-per-node=a100:4`. If empty, jobs request a number only."""
    per_node: PositiveInt | None = None
    """Number of GPUs of a node."""
    counts: tuple[PositiveInt, ...] = ()
    """Numbers of GPUs that a job may request on a node. If empty, any number is allowed."""
    cores: PositiveInt | None = None
    """Number of CPU cores per GPU, which is the default of each process."""
    memory_gb: PositiveFloat | None = None
    """Memory of a GPU in GB."""


@settings
class BillingSettings:
    """Cost of one job hour: `rate` times the largest of its resources, each divided by the amount given here.

    For example, `rate: 0.5, gpus: 1, cores: 8, memory_gb: 64` charges 0.5 for each GPU, 8 cores or 64 GB, whichever
    number is largest.
    """

    unit: str
    """Unit of the cost, e.g. node-hours, GPU-hours or RGU-hours."""
    rate: PositiveFloat = 1.0
    """Cost of one amount for an hour."""
    gpus: PositiveFloat | None = None
    """Number of GPUs in one amount. If empty, GPUs are not charged."""
    cores: PositiveFloat | None = None
    """Number of CPU cores in one amount. If empty, cores are not charged."""
    memory_gb: PositiveFloat | None = None
    """Memory in GB in one amount. If empty, memory is not charged."""
    rounded_up: bool = False
    """Whether a fraction of an amount is charged as a whole one."""

    def __post_init__(self) -> None:
        if self.gpus is None and self.cores is None and self.memory_gb is None:
            raise ValueError("must have at least one of gpus, cores, memory_gb, which are the amounts that are charged")


@settings
class NodeSettings:
    """Kind of node of a site."""

    cores: PositiveInt | None = None
    """Number of physical CPU cores."""
    usable_cores: PositiveInt | None = None
    """Number of cores that jobs can use. If empty, all of them."""
    memory_gb: PositiveFloat | None = None
    """Memory that jobs can use in GB; 1 GB is 1024 MB, as in Slurm's `G`."""
    billing: BillingSettings | None = None
    """Cost of jobs on these nodes. If empty, the cost is unknown."""

    @property
    def job_cores(self) -> int | None:
        """Number of cores that jobs can use, or None if it is unknown."""
        return self.usable_cores or self.cores

    def __post_init__(self) -> None:
        if self.usable_cores is not None and self.cores is not None and self.usable_cores > self.cores:
            raise ValueError(f"usable_cores {self.usable_cores} must not exceed cores {self.cores}")


@settings
class StorageSettings:
    """File systems of a site; the quotas apply to `scratch`."""

    scratch: str | None = None
    """Folder for output, for messages only."""
    files: PositiveInt | None = None
    """Quota of the number of files."""
    terabytes: PositiveFloat | None = None
    """Quota of disk space in TB (10^12 bytes)."""
    purge_days: PositiveInt | None = None
    """Days without access after which the site deletes files."""
    read_only: tuple[str, ...] = ()
    """Folders that are read-only in jobs, though not on login nodes."""
    node_local: str | None = None
    """Local scratch folder of a compute node; may contain variables of the job's shell."""
    node_local_in_memory: bool = False
    """Whether files in that folder count towards the job's memory (tmpfs)."""


@settings
class EnvironmentSettings:
    """Environment that a job's shell sets up before it starts Python."""

    modules: tuple[str, ...] = ()
    """Modules to load with `module load`."""
    variables: dict[str, str] = field(default_factory=dict)
    """Variables to export; the job's shell expands `$NAME` in their values."""
    venv: str | None = None
    """Folder of a virtual environment to activate."""
    container: str | None = None
    """Path of a container image, which replaces `{container}` in `python`."""
    python: str | None = None
    """Command that starts Python. If empty, `python` of `venv`, or the interpreter that submits the job."""
    setup: tuple[str, ...] = ()
    """Further shell lines, which run last. Here and above, a line that fails ends the job, as after `set -e`; append
    `|| true` to a line that may fail."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Shell lines that set up everything except the modules."""
        return (
            # `export NAME=$(COMMAND)` would succeed even if the command fails.
            *(f'{name}="{_in_quotes(value)}"; export {name}' for name, value in self.variables.items()),
            *([f'source "{_in_quotes(self.venv)}/bin/activate"'] if self.venv is not None else []),
            *self.setup,
        )

    def __post_init__(self) -> None:
        for name in self.variables:
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
                raise ValueError(
                    f"variables: {name!r} is not allowed: must consist of letters, digits and _, and not begin with a "
                    "digit"
                )


def _in_quotes(text: str) -> str:
    return re.sub(r'(["\\`])', r"\\\1", text)


@settings
class Profile:
    """Profile of a site, with the overrides of the command line."""

    file: str
    """Path of the profile; set by `load_profile`, not a key of the file."""
    site: str
    """Name of the site, for messages only."""
    sources: tuple[SourceSettings, ...] = ()
    """Documents from which the values were taken."""
    unverified: tuple[str, ...] = ()
    """Dotted keys of values that have not been confirmed."""
    scheduler: SchedulerName = "slurm"
    """Scheduler of the site, a name in `hpc.cluster.schedulers.SCHEDULERS`."""
    account: str | None = None
    """Account to charge, for jobs that set none."""
    accounts: AccountSettings = AccountSettings()
    """Rules for accounts."""
    partitions: dict[str, PartitionSettings] | None = None
    """Partitions by name. If empty, any name is allowed; with `{}`, jobs must not name one, since the site chooses."""
    partition: str | None = None
    """Default partition of jobs. If empty, the site's default."""
    cpu_partition: str | None = None
    """Default partition of jobs without GPUs. If empty, `partition`."""
    gpu: GpuSettings | None = None
    """GPUs of the nodes. If empty, the site has no GPUs."""
    node: NodeSettings = NodeSettings()
    """Nodes with GPUs, or the only kind of node."""
    cpu_node: NodeSettings | None = None
    """Nodes without GPUs. If empty, jobs without GPUs cannot be submitted."""
    several_nodes_whole: bool = False
    """Whether multi-node jobs must request all GPUs of their nodes."""
    memory_request: Literal["as_asked", "share", "never"] = "as_asked"
    """Memory request of jobs that set none. `share` requests the same fraction of a node's memory as of its GPUs or
    cores, and `as_asked` requests no memory. With `never`, no job may request any, since the site ignores it."""
    limits: LimitSettings = LimitSettings()
    """Limits on the user's jobs, unless a partition overrides them."""
    requeue: Permission = "unknown"
    """Whether jobs may be requeued under their own id."""
    submit_from_jobs: Permission = "unknown"
    """Whether jobs may submit jobs, as keepers do."""
    internet: Permission = "unknown"
    """Whether compute nodes can reach the internet."""
    cpu_bind: str | None = None
    """Value of srun's --cpu-bind. If empty, the site's default."""
    whole_node_cpu_bind: str | None = None
    """Value of --cpu-bind for jobs that have whole nodes and one process per GPU. If empty, `cpu_bind`."""
    signal_delay_s: PositiveInt = 180
    """Time in seconds before the time limit at which jobs receive the signal to save (--signal). Slurm may send it up
    to 60 s earlier, but not later."""
    storage: StorageSettings = StorageSettings()
    """File systems and their quotas."""
    environment: EnvironmentSettings = EnvironmentSettings()
    """Environment of jobs."""

    @property
    def name(self) -> str:
        """Name of the profile, which is its file's name without the extension."""
        return Path(self.file).stem

    def partition_settings(self, name: str | None) -> PartitionSettings | None:
        """Return the settings of a partition, or None if the profile has none for it."""
        return (self.partitions or {}).get(name or "")

    def kind_of_node(self, partition: str | None, on_gpus: bool) -> NodeSettings | None:
        """Return the kind of node that a job is allocated, or None if the site has none for it."""
        there = self.partition_settings(partition)
        return self.node if on_gpus or (there is not None and there.gpus) else self.cpu_node

    def limit(self, name: str, partition: str | None) -> tuple[int | None, str]:
        """Return the partition's limit of that name, or else the site's, and its dotted key."""
        there = self.partition_settings(partition)
        if there is not None and (value := getattr(there.limits, name)) is not None:
            return value, f"partitions.{partition}.limits.{name}"
        return getattr(self.limits, name), f"limits.{name}"

    def limits_of(self, partition: str | None) -> LimitSettings:
        """Return all limits on a partition's jobs."""
        names = [entry.name for entry in dataclasses.fields(LimitSettings)]
        return LimitSettings(**{name: self.limit(name, partition)[0] for name in names})

    def cite(self, key: str) -> str:
        """Return the place of a value for an error message."""
        mark = ", unverified" if overlaps(key, self.unverified) else ""
        return f"{self.file}: {key}{mark}"
