"""What a sweep asks for its jobs: `jobs: {default: {...}, NAME: {...}}`, where NAME is a stage or an arm and its block
lies over the default one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from fgssl.errors import COMMAND_LINE, Problem, SettingsError
from fgssl.settings.config import merge
from fgssl.settings.declare import PositiveFloat, PositiveInt, settings
from fgssl.settings.validation import unknown, validate
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
    """Further options of sbatch, e.g. `{constraint: a100_80, reservation: course}`; true is one without a value."""


@dataclass(frozen=True)
class Origin:
    """Where a job's settings were written, for the words of an error."""

    source: str = COMMAND_LINE
    block: str = DEFAULT
    own: frozenset[str] = frozenset()
    """Keys that the block itself has: the others are the default block's."""
    defaults: frozenset[str] = frozenset()
    """Keys that neither block has."""
    faults: tuple[Problem, ...] = ()
    """Of all blocks; their settings were read without these values. `requests.request` tells them too."""

    def problem(self, key: str, message: str) -> Problem:
        block = self.block if key in self.own else DEFAULT
        return Problem(self.source, f"jobs.{block}.{key}", f"by default {message}" if key in self.defaults else message)


BY_HAND = Origin()
"""Of settings that no sweep has."""


def read_jobs(blocks: Any, source: str, names: Sequence[str]) -> Mapping[str, tuple[JobSettings, Origin]]:
    """The key `jobs` of a sweep -> settings of `default` and of every one of `names`, the stages and arms.

    Faults of the blocks are left to `requests.request`, which tells them together with its own.
    """
    if not isinstance(blocks, Mapping):
        message = f"{blocks!r} is not allowed: give `{DEFAULT}: {{...}}` and blocks of stages and arms"
        raise SettingsError([Problem(source, "jobs", message)])
    faults: list[Problem] = []
    sound: dict[str, dict[str, Any]] = {}
    for name, block in blocks.items():
        if name not in (DEFAULT, *names):
            faults.append(Problem(source, f"jobs.{name}", unknown(str(name), [DEFAULT, *names], what="stage or arm")))
            continue
        sound[name] = {} if block is None else block
        try:
            validate(sound[name], JobSettings, source)
        except SettingsError as error:
            for problem in error.problems:
                key = ".".join(filter(None, ["jobs", name, problem.key]))
                faults.append(replace(problem, key=key))
            faulty = {problem.key.partition(".")[0] for problem in error.problems}
            sound[name] = {} if "" in faulty else {key: block[key] for key in block if key not in faulty}
    default, jobs = sound.get(DEFAULT, {}), {}
    every_key = {entry.name for entry in fields(JobSettings)}
    for name in (DEFAULT, *names):
        own = sound.get(name, {})
        job = validate(merge(default, own, ()), JobSettings, source)
        defaults = every_key - default.keys() - own.keys()
        jobs[name] = job, Origin(source, name, frozenset(own), frozenset(defaults), tuple(faults))
    return jobs
