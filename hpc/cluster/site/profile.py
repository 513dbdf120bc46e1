"""`slurm/*.yaml`: what a site offers, allows and charges. Empty means not known, so not checked.

A profile is a file and what the command line says over it, `cluster.account=OPEN-12-34`. Values that nobody has seen on
the site or in its documentation are listed by their dotted key in `unverified`.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from fgssl.errors import COMMAND_LINE, EXIT_OUT_OF_HANDS, Problem, SettingsError
from fgssl.settings.declare import PositiveFloat, PositiveInt, settings
from fgssl.settings.layers import (
    Place,
    Written,
    leaves,
    locate,
    merge,
    nested,
    overlaps,
    parse_overrides,
    read_yaml,
)
from fgssl.settings.validation import unknown, validate, without_faults
from hpc.cluster.schedulers import SCHEDULERS

PREFIX = "cluster."
"""Of the overrides that are a profile's."""
MODULE_OR_LEAVE = f" || exit {EXIT_OUT_OF_HANDS}"
"""After a module's line: without it another Python would be taken."""
_SHIPPED = Path(__file__).parents[3] / "slurm"

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
    """Option of sbatch that asks for GPUs."""
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
        """All of it as shell lines."""
        return (
            *(f"module load {module}{MODULE_OR_LEAVE}" for module in self.modules),
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


# ---------------------------------------------------------------------------------------------- loading


_KEYS = tuple(entry.name for entry in dataclasses.fields(Profile) if entry.name != "file")


def load_profile(file: Path, overrides: Sequence[str] = ()) -> Profile:
    """`read_profile`; raises `SettingsError` with all problems."""
    profile, problems = read_profile(file, overrides)
    if problems:
        raise SettingsError(problems)
    return profile


def read_profile(file: Path, overrides: Sequence[str] = ()) -> tuple[Profile, list[Problem]]:
    """The profile in a file, or a shipped one by its name, with overrides (`cluster.account=OPEN-12-34`).

    Where there are problems, it is the profile without the faulty values, so that the rest can be checked against it.
    What the command line gives is no longer marked as unverified.
    """
    given, problems = _given(overrides)
    try:
        file = profile_file(file)
        content: dict[str, Any] = read_yaml(file)
    except SettingsError as error:
        return validate(_unknown(file), Profile, str(file)), [*error.problems, *problems]
    top = Place(str(file))
    for key, value in given.items():
        content = merge(content, nested(key, value, given.places[key]))
    for key in [key for key in content if key not in _KEYS]:
        problems.append(locate(content, [str(key)], top).problem(unknown(str(key), _KEYS)))
        del content[key]
    problems += _mark_problems(content, top)
    content |= {"partitions": _partitions(content, top, problems), "file": str(file)}
    sound, found = without_faults(content, Profile, top, instead=_unknown(file))
    profile = validate(sound, Profile, top)
    for fault in _faults(profile):
        found.append(locate(content, fault.key.split("."), top).problem(fault.message))
    marks = tuple(mark for mark in profile.unverified if not overlaps(mark, given))
    return dataclasses.replace(profile, unverified=marks), [*problems, *found]


def _unknown(file: Path) -> dict[str, Any]:
    """What stands for faulty values: not known. GPUs and nodes without them are there, or nothing could be checked."""
    return {"site": "", "file": str(file), "gpu": {}, "cpu_node": {}}


def shipped_profiles() -> dict[str, Path]:
    """Return the files of the shipped profiles by their names."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("[!.]*.yaml"))}


def profile_file(given: Path) -> Path:
    """`karolina` is the shipped one, from wherever it is named."""
    if given.is_file():
        return given
    shipped = shipped_profiles()
    if str(given) in shipped:
        path = shipped[str(given)]
        return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    near = difflib.get_close_matches(given.stem, shipped, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    what = "no such file" if given.suffix or len(given.parts) > 1 else "unknown cluster"
    message = f"{given}: {what}: {hint}give one of {', '.join(shipped)}, or the path of a profile of your own"
    raise SettingsError([Problem(COMMAND_LINE, "--cluster", message)])


def _given(overrides: Sequence[str]) -> tuple[Written, list[Problem]]:
    given, problems = Written({}, {}), list[Problem]()
    parsed = parse_overrides(overrides)
    for key, value in parsed.items():
        if key.startswith(PREFIX):
            given[key.removeprefix(PREFIX)] = value
            given.places[key.removeprefix(PREFIX)] = parsed.places[key]
        else:
            problems.append(parsed.places[key].problem(f"is no key of a profile: those begin with {PREFIX}"))
    return given, problems


def _mark_problems(content: Mapping[str, Any], top: Place) -> Iterator[Problem]:
    """Of the keys in `unverified`: each must be a value of the file."""
    marks, keys = content.get("unverified"), [key for key, value in leaves(content).items() if value is not None]
    for mark in marks if isinstance(marks, Sequence) and not isinstance(marks, str) else ():
        if not any(str(mark) == key or key.startswith(f"{mark}.") for key in keys):
            near = difflib.get_close_matches(str(mark), keys, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            message = f"{mark!r} is no key with a value in this file: {hint}mend the mark"
            yield locate(content, ["unverified"], top).problem(message)


def _partitions(content: Mapping[str, Any], top: Place, problems: list[Problem]) -> Any:
    """Each without its faults, found here so that a mistyped key of one gets a suggestion; adds the problems."""
    partitions = content.get("partitions")
    if not isinstance(partitions, Mapping):
        return partitions
    sound = merge(partitions, {})
    for name, entry in partitions.items():
        place = locate(content, ["partitions", str(name)], top)
        sound[name], found = without_faults({} if entry is None else entry, PartitionSettings, place)
        problems += found
    return sound


def _faults(profile: Profile) -> Iterator[Problem]:
    """Values that do not fit each other."""
    gpu, node, accounts = profile.gpu, profile.node, profile.accounts
    if profile.account is not None and not accounts.fits(profile.account):
        message = f"{profile.account!r} is not allowed: {profile.name} has accounts like {accounts.example}"
        yield Problem(profile.file, "account", f"{message} ({profile.cite('accounts.pattern')})")
    for key in ("partition", "cpu_partition"):
        name = getattr(profile, key)
        if name is not None and profile.partitions is not None and name not in profile.partitions:
            yield Problem(profile.file, key, unknown(name, list(profile.partitions), what="partition"))
    for name in profile.partitions or {}:
        shortest, longest = (profile.limit(f"{which}_walltime_min", name)[0] for which in ("shortest", "longest"))
        if shortest is not None and longest is not None and shortest > longest:
            message = f"no walltime is left between the shortest, {shortest}, and the longest, {longest}"
            yield Problem(profile.file, f"partitions.{name}.limits", message)
    if gpu is not None and gpu.per_node is not None:
        if gpu.counts and max(gpu.counts) > gpu.per_node:
            message = f"{max(gpu.counts)} is over per_node {gpu.per_node}"
            yield Problem(profile.file, "gpu.counts", message)
        cores = gpu.per_node * (gpu.cores or 0)
        if node.job_cores is not None and cores > node.job_cores:
            message = f"{gpu.cores} for each of {gpu.per_node} GPUs are {cores}, a node has {node.job_cores} for jobs"
            yield Problem(profile.file, "gpu.cores", message)
