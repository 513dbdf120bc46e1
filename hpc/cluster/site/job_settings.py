"""Resources of a sweep's jobs, from its blocks `jobs: {default: {...}, NAME: {...}}`.

NAME is a stage or an arm, and its block overrides the default block.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from fgssl.errors import COMMAND_LINE, Problem, SettingsError
from fgssl.settings.declare import PositiveFloat, PositiveInt, faulty_keys, settings
from fgssl.settings.layers import Layer, Place, locate
from fgssl.settings.validation import unknown, validate, without_faults
from hpc.cluster.site.profile import Minutes

DEFAULT = "default"


def _one_value(value: object) -> object:
    if not isinstance(value, str | int | float):
        raise PydanticCustomError("no_option_value", "give a text or a number, or true for an option without a value")
    if isinstance(value, str) and not value.isprintable():  # it is a line of the job's script
        raise PydanticCustomError("several_lines", "give one line without control characters")
    return value


@settings
class JobSettings:
    """Resources and options of one job."""

    nodes: PositiveInt = 1
    """Number of nodes of a run."""
    processes_per_node: PositiveInt = 1
    """Number of processes of a run on each node. Each has its own GPU, unless resources.device is cpu."""
    cores_per_process: PositiveInt | None = None
    """CPU cores of each process. If empty, a GPU's share of the node's cores, or 1 without GPUs."""
    memory_gb_per_node: PositiveFloat | None = None
    """Memory in GB (1024 MB) of the job on each node. If empty, the profile's `memory_request` decides."""
    walltime_min: Minutes = 240
    """Time limit of one job in minutes. A longer run continues in further jobs."""
    partition: str | None = None
    """Partition to submit to. If empty, the profile's."""
    account: str | None = None
    """Account to charge. If empty, the profile's."""
    qos: str | None = None
    """Quality of service to request. If empty, the account's default."""
    runs_per_job: PositiveInt = 1
    """Number of runs that share a job, each on one process. With 1, every run has its own job."""
    runs_per_gpu: PositiveInt = 1
    """Number of these runs that share a GPU."""
    options: dict[str, Annotated[str | int | float | bool, BeforeValidator(_one_value)]] = field(default_factory=dict)
    """Further options of the scheduler, e.g. `{constraint: a100_80, reservation: course}`; true for an option without
    a value."""

    def __post_init__(self) -> None:
        faults: dict[str, str] = {}
        seen: set[str] = set()
        for name in self.options:
            if not re.fullmatch(r"(--)?[a-z][a-z0-9]+([-_][a-z0-9]+)*", name):
                faults[name] = (
                    f"{name!r} is not allowed: write the option's long name in small letters, e.g. constraint"
                )
            elif option_name(name) in seen:
                faults[name] = f"{name!r} is given twice: keep one of them"
            seen.add(option_name(name))
        if faults:
            raise faulty_keys("options", self.options, faults)


def option_name(written: str) -> str:
    """Return the name of a scheduler's option, which may be written with dashes and in front of it."""
    return written.lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class Origin:
    """Places where a job's settings were written, for error messages."""

    places: Mapping[str, Place] = field(default_factory=dict)
    """Place of each key; a key that is missing here is shown as one of the default block, on the command line."""
    defaults: frozenset[str] = frozenset()
    """Keys that have their default value, since no block sets them."""
    faults: tuple[Problem, ...] = ()
    """Faulty values in all blocks, which were left out of the settings; `requests.request` raises them."""

    def problem(self, key: str, message: str) -> Problem:
        """Return the problem of a key at the place where the key was written."""
        place = self.places.get(key, Place(COMMAND_LINE, f"jobs.{DEFAULT}.{key}"))
        return place.problem(f"by default {message}" if key in self.defaults else message)


def read_jobs(blocks: Any, source: str, names: Sequence[str]) -> Mapping[str, tuple[JobSettings, Origin]]:
    """Return the settings of `default` and of each of `names` (stages and arms) from a sweep's `jobs`.

    Faults of the blocks are returned, so that `requests.request` raises them together with its own.
    """
    top = Place(source, "jobs")
    if not isinstance(blocks, Mapping):
        message = (
            f"{blocks!r} is not allowed: must be a mapping with `{DEFAULT}: {{...}}` and blocks of stages and arms"
        )
        raise SettingsError([top.problem(message)])
    faults: list[Problem] = []
    sound: dict[str, Layer] = {}
    for name, block in blocks.items():
        place = locate(blocks, [str(name)], top)
        if name not in (DEFAULT, *names):
            faults.append(place.problem(unknown(str(name), [DEFAULT, *names], what="stage or arm")))
            continue
        sound[name], found = without_faults({} if block is None else block, JobSettings, place)
        faults += found
    default, jobs = sound.get(DEFAULT, Layer()), {}
    for name in (DEFAULT, *names):
        own = sound.get(name, Layer())
        job = validate(default.merge(own), JobSettings, source)
        keys = [entry.name for entry in fields(JobSettings)]
        defaults = frozenset(key for key in keys if key not in default and key not in own)
        places = {key: locate(blocks, [name if key in own else DEFAULT, key], top) for key in keys}
        places |= {key: top.below(DEFAULT, key) for key in defaults}
        jobs[name] = job, Origin(places, defaults, tuple(faults))
    return jobs
