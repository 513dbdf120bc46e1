"""A sweep -> its grid points, every one a valid config.

`start: {encoder: {stage: pretrain}}` becomes the symbolic run `stage:pretrain`, which `hpc.sweeps.stages` replaces
by the name of that stage's run at the same seed.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgssl.errors import Problem, SettingsError, UserError
from fgssl.report.reference import reference_values
from fgssl.settings.config import CHOICES, Config, StartSettings, parse
from fgssl.settings.fingerprints import evaluation_fingerprint, to_mapping, training_fingerprint
from fgssl.settings.layers import Place, at, locate, merge, nested
from fgssl.settings.validation import unknown
from hpc.sweeps.retries import Retries
from hpc.sweeps.starts import misfits
from hpc.sweeps.sweep_file import Arm, Sweep, read_sweep

_STAGE = "stage:"
_ROLES = tuple(entry.name for entry in dataclasses.fields(StartSettings))


@dataclass(frozen=True)
class Point:
    """One cell of the table: an arm with one choice of its grid's values; runs once per seed."""

    cell: str
    arm: str
    grid: Mapping[str, Any]
    config: Config
    """At seed 0, with symbolic starts."""
    published: Mapping[str, float]
    """Measures of the paper, by name; empty where it has none of this dataset and these settings."""


@dataclass(frozen=True)
class Grid:
    """A sweep, expanded and checked."""

    file: Path
    name: str
    title: str
    source: str
    preset: str | None
    seeds: tuple[int, ...]
    baseline: str | None
    """Name of the cell that differences are taken to."""
    points: Sequence[Point]
    stages: Mapping[str, Config]
    """At seed 0, with symbolic starts."""
    measured_minutes: float | None
    jobs: Mapping[str, Any]
    """Requests of jobs on a cluster, as written; its keys know where."""
    retries: Retries


def expand(file: Path, preset: str | None = None, overrides: Sequence[str] = ()) -> Grid:
    """Read, merge, expand and validate a sweep file; raises one `SettingsError` with all its problems.

    Looks at nothing but the YAML files: neither weights nor shards nor torch are needed.
    """
    sweep = read_sweep(file, preset, overrides)
    faults = _Faults(sweep.problems)
    _check_names_and_seeds(sweep, faults)
    stages = {
        name: config
        for name in sweep.stages
        if (config := _config(_stage_mapping(sweep, name), sweep, sweep.place("stages", name), faults))
    }
    points = [point for name, arm in sweep.arms.items() for point in _points(name, arm, sweep, faults)]
    _check_circles(stages, sweep, faults)
    _check_what_stages_train(stages, points, sweep, faults)
    _check_points(points, sweep, faults)
    baseline = _baseline(sweep, faults)
    faults.raise_all()
    return Grid(
        file=file,
        name=sweep.settings.name,
        title=sweep.settings.title,
        source=sweep.settings.source,
        preset=sweep.preset,
        seeds=sweep.settings.seeds,
        baseline=baseline,
        points=points,
        stages=stages,
        measured_minutes=sweep.settings.measured_minutes,
        jobs=sweep.content.get("jobs", {}),
        retries=sweep.settings.retries,
    )


def needed_stages(config: Config) -> dict[str, str]:
    """Role (`encoder`, ...) -> name of the stage that the config starts from."""
    runs = {role: source.run for role, source in config.start.sources.items()}
    return {role: run.removeprefix(_STAGE) for role, run in runs.items() if run and run.startswith(_STAGE)}


class _Faults:
    """Problems in the order they were met, each once; a fault of whole configs once with all their places."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        self._of_configs: dict[str, list[Place]] = {}

    def add(self, place: Place, message: str) -> None:
        self.problems.append(place.problem(message))

    def add_to_config(self, place: Place, message: str) -> None:
        self._of_configs.setdefault(message, []).append(place)

    def raise_all(self) -> None:
        for message, places in self._of_configs.items():
            keys = ", ".join(dict.fromkeys(place.key for place in places))
            self.problems.append(dataclasses.replace(places[0], key=keys).problem(message))
        if self.problems:
            raise SettingsError(list(dict.fromkeys(self.problems)))


# ------------------------------------------------------------------------------------------- expansion


def _points(name: str, arm: Arm, sweep: Sweep, faults: _Faults) -> Iterator[Point]:
    values: dict[str, Sequence[Any]] = {}
    for key, choices in arm.grid.items():
        place = sweep.place("arms", name, "grid", key)
        if not isinstance(choices, list):
            faults.add(place, f"{choices!r} is not allowed: give a list of values, e.g. [{choices}]")
        elif not choices:
            faults.add(place, "the list is empty: give at least one value, or leave the key out")
        elif repeated := _repeated(choices):
            faults.add(place, f"{repeated[0]!r} is there twice: every value once")
        else:
            values[key] = choices
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        config = _config(_arm_mapping(sweep, name, chosen), sweep, sweep.place("arms", name), faults)
        if config is not None:
            yield Point(_cell_name(name, chosen), name, chosen, config, _published(name, arm, config, sweep, faults))


def _published(name: str, arm: Arm, config: Config, sweep: Sweep, faults: _Faults) -> Mapping[str, float]:
    if arm.reference is None:
        return {}
    settings = to_mapping(config)
    match = {
        column: at(settings, value, otherwise=value) if "." in str(value) else value
        for column, value in arm.reference.match.items()
    }
    try:
        return reference_values(arm.reference.table, config.data.dataset, match, folder=sweep.file.parent / "reference")
    except UserError as error:
        faults.add(sweep.place("arms", name, "reference"), str(error))
        return {}


def _stage_mapping(sweep: Sweep, name: str) -> dict[str, Any]:
    """A stage is measured only where it says so itself: nothing reads its measures."""
    partial = sweep.stages[name]
    measured = {} if "evaluation" in partial else {"evaluation": None}
    return merge(merge(sweep.content.get("settings", {}), partial, CHOICES), measured)


def _arm_mapping(sweep: Sweep, name: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    mapping = merge(sweep.content.get("settings", {}), sweep.content["arms"][name].get("settings", {}), CHOICES)
    for key, value in chosen.items():
        mapping = merge(mapping, nested(key, value, sweep.place("arms", name, "grid", key)), CHOICES)
    return mapping


def _cell_name(arm: str, chosen: Mapping[str, Any]) -> str:
    return " ".join([arm, *(f"{key.rsplit('.', 1)[-1]}={_value_name(value)}" for key, value in chosen.items())])


def _value_name(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{_value_name(item)}" for key, item in value.items())
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _config(mapping: dict[str, Any], sweep: Sweep, top: Place, faults: _Faults) -> Config | None:
    """Return the validated config at seed 0, or None after adding its problems; `top` is the arm or the stage."""
    if "seed" in mapping:
        faults.add(locate(mapping, ["seed"], top), "a sweep's seeds are listed in `seeds`")
    symbolic = _with_symbolic_starts(mapping, sweep, top, faults)
    try:
        return None if symbolic is None else parse(merge(symbolic, {"seed": 0}), top)
    except SettingsError as error:
        for problem in error.problems:
            if problem == top.problem(problem.message):  # of the config as a whole
                faults.add_to_config(top, problem.message)
            else:
                faults.problems.append(problem)
        return None


def _with_symbolic_starts(mapping: dict[str, Any], sweep: Sweep, top: Place, faults: _Faults) -> dict[str, Any] | None:
    start = mapping.get("start")
    if not isinstance(start, Mapping):
        return mapping
    symbolic, valid = merge(start, {}), True
    for role in _ROLES:
        source = start.get(role)
        if not isinstance(source, Mapping) or "stage" not in source:
            continue
        others = {key: value for key, value in source.items() if key != "stage"}
        stage = source["stage"]
        if stage is None:
            symbolic[role] = others
        elif any(value is not None for value in others.values()):
            given = ", ".join(key for key, value in source.items() if value is not None)
            message = f"give exactly one of `stage`, `file` and `run`, not {given}; null takes one back"
            faults.add(locate(mapping, ["start", role], top), message)
            valid = False
        elif stage not in list(sweep.stages):  # whatever is written there, hashable or not
            message = unknown(str(stage), list(sweep.stages), what="stage")
            faults.add(locate(mapping, ["start", role, "stage"], top), message)
            valid = False
        else:
            symbolic[role] = {"run": f"{_STAGE}{stage}"}
    mapping = merge(mapping, {})
    mapping["start"] = symbolic
    return mapping if valid else None


# ---------------------------------------------------------------------------------------------- checks


def _check_names_and_seeds(sweep: Sweep, faults: _Faults) -> None:
    if not re.fullmatch(r"\w[\w-]*", sweep.settings.name):
        faults.add(
            sweep.place("name"), f"{sweep.settings.name!r} is not allowed: letters, digits, _ and - (it names a folder)"
        )
    for kind, names in (("arms", sweep.settings.arms), ("stages", sweep.settings.stages)):
        for name in names:
            if not re.fullmatch(r"[A-Za-z]\w*", name):
                faults.add(sweep.place(kind, name), f"{name!r} is not allowed as a name: letters, digits and _")
    if not sweep.settings.seeds:
        faults.add(sweep.place("seeds"), "the list is empty: give at least one seed, e.g. [0, 1, 2]")
    if repeated := _repeated(sweep.settings.seeds):
        faults.add(sweep.place("seeds"), f"{repeated[0]} is there twice: every seed once")
    if not any(arm is not None for arm in sweep.settings.arms.values()):
        faults.add(sweep.place("arms"), "there is no arm: give at least one")


def _check_circles(stages: Mapping[str, Config], sweep: Sweep, faults: _Faults) -> None:
    def follow(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = path[path.index(name) :]
            if name == min(circle):  # a circle is met from each of its stages; told once
                faults.add(sweep.place("stages", name, "start"), f"a circle: {' needs '.join([*circle, name])}")
        elif name in stages:
            for needed in needed_stages(stages[name]).values():
                follow(needed, (*path, name))

    for name in stages:
        follow(name, ())


def _check_what_stages_train(
    stages: Mapping[str, Config], points: Sequence[Point], sweep: Sweep, faults: _Faults
) -> None:
    """Add a fault for each start that its stage does not train, or that does not fit."""
    configs = [(config, _stage_mapping(sweep, name), sweep.place("stages", name)) for name, config in stages.items()]
    configs += [
        (point.config, _arm_mapping(sweep, point.arm, point.grid), sweep.place("arms", point.arm)) for point in points
    ]
    for config, mapping, top in configs:
        for role, stage in needed_stages(config).items():
            for misfit in misfits(role, stages[stage], config) if stage in stages else ():
                faults.add(locate(mapping, ["start", role, "stage"], top), f"stage {stage!r} {misfit}")


def _check_points(points: Sequence[Point], sweep: Sweep, faults: _Faults) -> None:
    seen: dict[tuple[str, str], Point] = {}
    for point in points:
        place = sweep.place("arms", point.arm)
        if point.config.evaluation is None:
            faults.add(place, "evaluation is empty, but a cell of the table must be measured")
            continue
        same = seen.setdefault((training_fingerprint(point.config), evaluation_fingerprint(point.config)), point)
        if same is not point and same.config.start != point.config.start:
            faults.add(
                place,
                f"cell {point.cell!r} differs from cell {same.cell!r} in the path of a start file only, which names no "
                "run: give each file a sweep and an --out of its own",
            )
        elif same is not point:
            faults.add(place, f"cell {point.cell!r} is the same config as cell {same.cell!r}: remove one of them")
    if len(datasets := sorted({point.config.data.dataset for point in points})) > 1:
        faults.add(
            sweep.place("arms"), f"one table is about one dataset, not {', '.join(datasets)}: one sweep for each"
        )


def _baseline(sweep: Sweep, faults: _Faults) -> str | None:
    name = sweep.settings.baseline
    alone = [arm for arm, arm_settings in sweep.arms.items() if not arm_settings.grid]
    if name is not None and name in sweep.arms and name not in alone:
        faults.add(sweep.place("baseline"), f"{name!r} has a grid, so it is several cells: take an arm without one")
    elif name is not None and sweep.settings.arms.get(name) is None:
        faults.add(sweep.place("baseline"), unknown(name, alone, what="arm"))
    return name


def _repeated(values: Sequence[Any]) -> list[Any]:
    return [value for index, value in enumerate(values) if value in values[:index]]
