"""`slurm/*.yaml`: what a site offers, allows and charges. Empty means not known, so not checked.

A profile is a file and what the command line says over it, `cluster.account=OPEN-12-34`. Values that nobody has seen on
the site or in its documentation are listed by their dotted key in `unverified`.
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
        raise ValueError(f"{value!r} is not allowed: give minutes, e.g. 240 for four hours")
    return value


Minutes = Annotated[PositiveInt, BeforeValidator(_no_clock)]


def _is_scheduler(name: str) -> str:
    if name not in SCHEDULERS:
        raise ValueError(unknown(name, list(SCHEDULERS), what="scheduler"))
    return name


SchedulerName = Annotated[str, AfterValidator(_is_scheduler)]


@settings
class SourceSettings:
    """What the values were read in."""

    document: str
    snapshot: str
    """Date of the copy that was read, or the commit where the document lies in a repository."""


@settings
class AccountSettings:
    """What the site wants `--account` to be."""

    required: bool = False
    pattern: str | None = None
    """Regular expression that matches every account's whole name."""
    example: str = "my-account"

    def fits(self, name: str) -> bool:
        return self.pattern is None or re.fullmatch(self.pattern, name) is not None

    def __post_init__(self) -> None:
        try:
            if not self.fits(self.example):
                raise ValueError(f"example {self.example!r} does not match pattern {self.pattern!r}")
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from None


@settings
class LimitSettings:
    """Of one user's jobs. Each task of an array counts as a job."""

    submitted: PositiveInt | None = None
    """Jobs in the queue and running, at once."""
    running: PositiveInt | None = None
    array_tasks: PositiveInt | None = None
    array_index: PositiveInt | None = None
    """The highest index that an array may use: MaxArraySize - 1."""
    nodes: PositiveInt | None = None
    """Of one job."""
    longest_walltime_min: Minutes | None = None
    shortest_walltime_min: Minutes | None = None

    def __post_init__(self) -> None:
        shortest, longest = self.shortest_walltime_min, self.longest_walltime_min
        if shortest is not None and longest is not None and shortest > longest:
            raise ValueError(f"shortest_walltime_min {shortest} is over longest_walltime_min {longest}")


@settings
class PartitionSettings:
    gpus: bool = True
    """Whether its nodes have GPUs (`node`) or none (`cpu_node`)."""
    whole_node: bool = False
    """Whether a job gets, and pays for, whole nodes whatever it asks for."""
    preemptible: bool = False
    """Whether jobs of others may end a job."""
    grace_s: PositiveInt | None = None
    """Between the first signal of a preemption and the kill."""
    free: bool = False
    """Whether its jobs are not charged."""
    limits: LimitSettings = LimitSettings()
    """Those that differ from the site's."""


@settings
class GpuSettings:
    vendor: Literal["cuda", "rocm"] = "cuda"
    option: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    """Option that asks for GPUs."""
    type: str | None = None
    """As in `--gpus-per-node=a100:4`; empty: the number alone."""
    per_node: PositiveInt | None = None
    counts: tuple[PositiveInt, ...] = ()
    """The only numbers that a job may ask for on a node; empty: any."""
    cores: PositiveInt | None = None
    """A GPU's share of a node's cores, which each process gets."""
    memory_gb: PositiveFloat | None = None


@settings
class BillingSettings:
    """An hour of a job costs `rate` times the largest of what it holds, each counted in the amounts given here.

    `rate: 0.5, gpus: 1, cores: 8, memory_gb: 64`: a half for each GPU, or for each 8 cores or 64 GB where that is more.
    """

    unit: str
    """E.g. node-hours, GPU-hours, RGU-hours."""
    rate: PositiveFloat = 1.0
    gpus: PositiveFloat | None = None
    cores: PositiveFloat | None = None
    memory_gb: PositiveFloat | None = None
    rounded_up: bool = False
    """Whether a begun amount counts as a whole one."""

    def __post_init__(self) -> None:
        if self.gpus is None and self.cores is None and self.memory_gb is None:
            raise ValueError("says no amount that is paid for: give at least one of gpus, cores, memory_gb")


@settings
class NodeSettings:
    cores: PositiveInt | None = None
    usable_cores: PositiveInt | None = None
    """Those that jobs may have; empty: all."""
    memory_gb: PositiveFloat | None = None
    """That jobs may have; 1 GB is 1024 MB, as in Slurm's `G`."""
    billing: BillingSettings | None = None

    @property
    def job_cores(self) -> int | None:
        return self.usable_cores or self.cores

    def __post_init__(self) -> None:
        if self.usable_cores is not None and self.cores is not None and self.usable_cores > self.cores:
            raise ValueError(f"usable_cores {self.usable_cores} is over cores {self.cores}")


@settings
class StorageSettings:
    """Where jobs write; quotas are of that place."""

    scratch: str | None = None
    """For people: where it is."""
    files: PositiveInt | None = None
    terabytes: PositiveFloat | None = None
    """1 TB is 10^12 bytes."""
    purge_days: PositiveInt | None = None
    """After which files that nobody touched are deleted."""
    read_only: tuple[str, ...] = ()
    """Places that a job cannot write to, though a login node can."""
    node_local: str | None = None
    """Folder on a node that its jobs may fill, as its shell names it."""
    node_local_in_memory: bool = False
    """Whether that folder takes from the job's memory."""


@settings
class EnvironmentSettings:
    """What a job's shell does before Python starts."""

    modules: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    """Exported; `$NAME` in a value is replaced by the job's shell."""
    venv: str | None = None
    """Folder of a virtual environment to activate."""
    container: str | None = None
    """Image file, which stands for `{container}` in `python`."""
    python: str | None = None
    """Command that starts Python; empty: the one that submits."""
    setup: tuple[str, ...] = ()
    """Further shell lines, the last."""

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it but the modules, as shell lines."""
        return (
            *(f'export {name}="{_in_quotes(value)}"' for name, value in self.variables.items()),
            *([f'source "{_in_quotes(self.venv)}/bin/activate"'] if self.venv is not None else []),
            *self.setup,
        )


def _in_quotes(text: str) -> str:
    return re.sub(r'(["\\`])', r"\\\1", text)


@settings
class Profile:
    file: str
    """Set by `load_profile`, no key of the file."""
    site: str
    """For people."""
    sources: tuple[SourceSettings, ...] = ()
    unverified: tuple[str, ...] = ()
    """Dotted keys."""
    scheduler: SchedulerName = "slurm"
    account: str | None = None
    """The user's."""
    accounts: AccountSettings = AccountSettings()
    partitions: dict[str, PartitionSettings] | None = None
    """Empty: jobs may name any. `{}`: they must name none, the site chooses."""
    partition: str | None = None
    """Of jobs that name none."""
    cpu_partition: str | None = None
    """Of jobs without GPUs that name none; empty: `partition`."""
    gpu: GpuSettings | None = None
    """Empty: the site has none."""
    node: NodeSettings = NodeSettings()
    """With GPUs, or the only kind."""
    cpu_node: NodeSettings | None = None
    """Without GPUs; empty: jobs without GPUs cannot be submitted."""
    several_nodes_whole: bool = False
    """Whether a job of several nodes must take all of their GPUs."""
    memory_request: Literal["as_asked", "share", "never"] = "as_asked"
    """What is asked for by jobs that say nothing of it: `share`, as much of a node's memory as of its GPUs or cores;
    `as_asked`, nothing. `never`: the site ignores what jobs ask for."""
    limits: LimitSettings = LimitSettings()
    requeue: Permission = "unknown"
    """Whether a job may go back into the queue under its own id."""
    submit_from_jobs: Permission = "unknown"
    internet: Permission = "unknown"
    """From compute nodes."""
    cpu_bind: str | None = None
    """srun's --cpu-bind."""
    whole_node_cpu_bind: str | None = None
    """The same where a job has whole nodes and one process on each of their GPUs."""
    signal_delay_s: PositiveInt = 180
    """How long before the time limit a job is told to save. Slurm may send it up to 60 s earlier, and never later."""
    storage: StorageSettings = StorageSettings()
    environment: EnvironmentSettings = EnvironmentSettings()

    @property
    def name(self) -> str:
        return Path(self.file).stem

    def partition_settings(self, name: str | None) -> PartitionSettings | None:
        """None where the file says nothing of it."""
        return (self.partitions or {}).get(name or "")

    def kind_of_node(self, partition: str | None, on_gpus: bool) -> NodeSettings | None:
        """The nodes that a job gets; None where the site has none for it."""
        there = self.partition_settings(partition)
        return self.node if on_gpus or (there is not None and there.gpus) else self.cpu_node

    def limit(self, name: str, partition: str | None) -> tuple[int | None, str]:
        """The partition's limit of that name, else the site's, and its key."""
        there = self.partition_settings(partition)
        if there is not None and (value := getattr(there.limits, name)) is not None:
            return value, f"partitions.{partition}.limits.{name}"
        return getattr(self.limits, name), f"limits.{name}"

    def limits_of(self, partition: str | None) -> LimitSettings:
        """All limits of a partition's jobs."""
        names = [entry.name for entry in dataclasses.fields(LimitSettings)]
        return LimitSettings(**{name: self.limit(name, partition)[0] for name in names})

    def cite(self, key: str) -> str:
        """Where a value was read, for the words of an error."""
        mark = ", which nobody has verified" if overlaps(key, self.unverified) else ""
        return f"{self.file}: {key}{mark}"
