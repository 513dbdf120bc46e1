"""What a sweep asks for its jobs: `jobs: {default: {...}, NAME: {...}}`, where NAME is a stage or an arm and its block
lies over the default one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from fgssl.errors import COMMAND_LINE, Problem, SettingsError
from fgssl.settings.declare import PositiveFloat, PositiveInt, settings
from fgssl.settings.layers import Layer, Place, locate
from fgssl.settings.validation import unknown, validate, without_faults
from hpc.cluster.site.profile import Minutes

DEFAULT = "default"


@settings
class JobSettings:
    """What one job asks for."""

    nodes: PositiveInt = 1
    processes_per_node: PositiveInt = 1
    """Of a run; each has a GPU of its own, unless resources.device is cpu."""
    cores_per_process: PositiveInt | None = None
    """Empty: a GPU's share of the node; without GPUs one."""
    memory_gb_per_node: PositiveFloat | None = None
    """Empty: as the profile's `memory_request` says."""
    walltime_min: Minutes = 240
    """Of a job; a run that needs longer goes on in further ones."""
    partition: str | None = None
    """Empty: the profile's."""
    account: str | None = None
    """Empty: the profile's."""
    qos: str | None = None
    runs_per_job: PositiveInt = 1
    """More: so many runs of one process each share a job, side by side."""
    runs_per_gpu: PositiveInt = 1
    """Of those, how many share a GPU."""
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    """Further options, in the scheduler's words: `{constraint: a100_80, reservation: course}`; true: no value."""


@dataclass(frozen=True)
class Origin:
    """Places where a job's settings were written, for the words of an error."""

    places: Mapping[str, Place] = field(default_factory=dict)
    """Place of each key; any other is shown in the default block, on the command line."""
    defaults: frozenset[str] = frozenset()
    """Keys that nobody wrote."""
    faults: tuple[Problem, ...] = ()
    """Faults of all blocks, whose settings were read without these values. `requests.request` raises them too."""

    def problem(self, key: str, message: str) -> Problem:
        place = self.places.get(key, Place(COMMAND_LINE, f"jobs.{DEFAULT}.{key}"))
        return place.problem(f"by default {message}" if key in self.defaults else message)


def read_jobs(blocks: Any, source: str, names: Sequence[str]) -> Mapping[str, tuple[JobSettings, Origin]]:
    """Return the settings of `default` and of each of `names`, the stages and arms, from a sweep's `jobs`.

    Faults of the blocks are left to `requests.request`, which raises them together with its own.
    """
    top = Place(source, "jobs")
    if not isinstance(blocks, Mapping):
        message = f"{blocks!r} is not allowed: give `{DEFAULT}: {{...}}` and blocks of stages and arms"
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
