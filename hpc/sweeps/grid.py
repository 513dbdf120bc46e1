"""A sweep -> its grid points, every one a valid config.

`start: {encoder: {stage: pretrain}}` becomes the symbolic run `stage:pretrain`, which `hpc.sweeps.stages` replaces
by the name of that stage's run at the same seed.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgssl.errors import Problem, SettingsError, UserError
from fgssl.report.reference import reference_values
from fgssl.settings.config import (
    Config,
    StartSettings,
    evaluation_fingerprint,
    merge,
    nested,
    parse,
    to_mapping,
    training_fingerprint,
)
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
    """What jobs on a cluster ask for, as written."""
    retries: Retries
    placed: Callable[[Problem], Problem]
    """Where the key of a problem with `jobs` was written: in which file, or on the command line."""


def expand(file: Path, preset: str | None = None, overrides: Sequence[str] = ()) -> Grid:
    """Read, merge, expand and validate a sweep file; raises one `SettingsError` with all its problems.

    Looks at nothing but the YAML files: neither weights nor shards nor torch are needed.
    """
    sweep = read_sweep(file, preset, overrides)
    faults = _Faults(sweep)
    _check_names_and_seeds(sweep, faults)
    stages = {
        name: config
        for name, partial in sweep.stages.items()
        if (config := _config(_stage_mapping(sweep, partial), sweep, [["stages", name], ["settings"]], faults))
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
        jobs=sweep.settings.jobs,
        retries=sweep.settings.retries,
        placed=sweep.placed,
    )


def needed_stages(config: Config) -> dict[str, str]:
    """Role (`encoder`, ...) -> name of the stage that the config starts from."""
    runs = {role: source.run for role, source in config.start.sources.items()}
    return {role: run.removeprefix(_STAGE) for role, run in runs.items() if run and run.startswith(_STAGE)}


class _Faults:
    """Problems in the order they were met, each once; of a whole config's faults, each once with all its places."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._problems = list(sweep.problems)
        self._of_configs: dict[str, list[str]] = {}

    def add(self, paths: Sequence[Sequence[str]], message: str) -> None:
        self._problems.append(self._sweep.problem(paths, message))

    def add_to_config(self, place: str, message: str) -> None:
        places = self._of_configs.setdefault(message, [])
        if place not in places:
            places.append(place)

    def raise_all(self) -> None:
        of_configs = [Problem(str(self._sweep.file), ", ".join(at), text) for text, at in self._of_configs.items()]
        if problems := list(dict.fromkeys([*self._problems, *of_configs])):
            raise SettingsError(problems)


# ------------------------------------------------------------------------------------------- expansion


def _points(name: str, arm: Arm, sweep: Sweep, faults: _Faults) -> Iterator[Point]:
    values: dict[str, Sequence[Any]] = {}
    for key, choices in arm.grid.items():
        path = ["arms", name, "grid", key]
        if not isinstance(choices, list | tuple):
            faults.add([path], f"{choices!r} is not allowed: give a list of values, e.g. [{choices}]")
        elif not choices:
            faults.add([path], "the list is empty: give at least one value, or leave the key out")
        elif repeated := _repeated(choices):
            faults.add([path], f"{repeated[0]!r} is there twice: every value once")
        else:
            values[key] = choices
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        mapping = merge(sweep.settings.settings, arm.settings)
        for key, value in chosen.items():
            mapping = merge(mapping, nested(key, value))
        config = _config(mapping, sweep, [["arms", name, "settings"], ["settings"]], faults, chosen)
        if config is not None:
            yield Point(_cell_name(name, chosen), name, chosen, config, _published(name, arm, config, sweep, faults))


def _published(name: str, arm: Arm, config: Config, sweep: Sweep, faults: _Faults) -> Mapping[str, float]:
    if arm.reference is None:
        return {}
    settings = to_mapping(config)
    match = {column: _looked_up(settings, value) for column, value in arm.reference.match.items()}
    try:
        return reference_values(arm.reference.table, config.data.dataset, match, folder=sweep.file.parent / "reference")
    except UserError as error:
        faults.add([["arms", name, "reference"]], str(error))
        return {}


def _looked_up(settings: Mapping[str, Any], value: Any) -> Any:
    """`value`, or what lies at it where it is a dotted key."""
    if not isinstance(value, str) or "." not in value:
        return value
    inner: Any = settings
    for part in value.split("."):
        if not isinstance(inner, Mapping) or part not in inner:
            return value
        inner = inner[part]
    return inner


def _stage_mapping(sweep: Sweep, partial: Mapping[str, Any]) -> dict[str, Any]:
    """A stage is measured only where it says so itself: nothing reads its measures."""
    mapping = merge(sweep.settings.settings, partial)
    return mapping if "evaluation" in partial else mapping | {"evaluation": None}


def _cell_name(arm: str, chosen: Mapping[str, Any]) -> str:
    return " ".join([arm, *(f"{key.rsplit('.', 1)[-1]}={_value_name(value)}" for key, value in chosen.items())])


def _value_name(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{_value_name(item)}" for key, item in value.items())
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _config(
    mapping: Mapping[str, Any],
    sweep: Sweep,
    places: Sequence[Sequence[str]],
    faults: _Faults,
    chosen: Mapping[str, Any] | None = None,
) -> Config | None:
    """The validated config at seed 0, or None after adding its problems where the file sets the faulty keys."""
    grid = [[*places[0][:-1], "grid"]] if chosen else []

    def add(key: str, message: str) -> None:
        parts = key.split(".")
        by_grid = [[*grid[0], name] for name in chosen or () if key == name or key.startswith(f"{name}.")]
        if key:
            faults.add([*by_grid, *([*place, *parts] for place in places)], message)
        else:
            faults.add_to_config(".".join(places[0][:2]), message)

    if "seed" in mapping:
        add("seed", "a sweep's seeds are listed in `seeds`")
    symbolic = _with_symbolic_starts(mapping, sweep, add)
    try:
        return None if symbolic is None else parse(symbolic | {"seed": 0}, str(sweep.file))
    except SettingsError as error:
        for problem in error.problems:
            add(problem.key, problem.message)
        return None


def _with_symbolic_starts(mapping: Mapping[str, Any], sweep: Sweep, add: Any) -> dict[str, Any] | None:
    start = mapping.get("start")
    if not isinstance(start, Mapping):
        return dict(mapping)
    symbolic, valid = dict(start), True
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
            add(f"start.{role}", f"give exactly one of `stage`, `file` and `run`, not {given}; null takes one back")
            valid = False
        elif stage not in sweep.stages:
            add(f"start.{role}.stage", unknown(str(stage), list(sweep.stages), what="stage"))
            valid = False
        else:
            symbolic[role] = {"run": f"{_STAGE}{stage}"}
    return {**mapping, "start": symbolic} if valid else None


# ---------------------------------------------------------------------------------------------- checks


def _check_names_and_seeds(sweep: Sweep, faults: _Faults) -> None:
    if not re.fullmatch(r"\w[\w-]*", sweep.settings.name):
        faults.add([["name"]], f"{sweep.settings.name!r} is not allowed: letters, digits, _ and - (it names a folder)")
    for kind, names in (("arms", sweep.settings.arms), ("stages", sweep.settings.stages)):
        for name in names:
            if not re.fullmatch(r"[A-Za-z]\w*", name):
                faults.add([[kind, name]], f"{name!r} is not allowed as a name: letters, digits and _")
    if not sweep.settings.seeds:
        faults.add([["seeds"]], "the list is empty: give at least one seed, e.g. [0, 1, 2]")
    if repeated := _repeated(sweep.settings.seeds):
        faults.add([["seeds"]], f"{repeated[0]} is there twice: every seed once")
    if not any(arm is not None for arm in sweep.settings.arms.values()):
        faults.add([["arms"]], "there is no arm: give at least one")


def _check_circles(stages: Mapping[str, Config], sweep: Sweep, faults: _Faults) -> None:
    def follow(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = path[path.index(name) :]
            if name == min(circle):  # a circle is met from each of its stages; told once
                faults.add([["stages", name, "start"]], f"a circle: {' needs '.join([*circle, name])}")
        elif name in stages:
            for needed in needed_stages(stages[name]).values():
                follow(needed, (*path, name))

    for name in stages:
        follow(name, ())


def _check_what_stages_train(
    stages: Mapping[str, Config], points: Sequence[Point], sweep: Sweep, faults: _Faults
) -> None:
    """What a run starts from must be trained by the stage, and fit."""
    configs = [(["stages", name], config) for name, config in stages.items()]
    configs += [(["arms", point.arm, "settings"], point.config) for point in points]
    for place, config in configs:
        for role, stage in needed_stages(config).items():
            path = ["start", role, "stage"]
            for misfit in misfits(role, stages[stage], config) if stage in stages else ():
                faults.add([[*place, *path], ["settings", *path]], f"stage {stage!r} {misfit}")


def _check_points(points: Sequence[Point], sweep: Sweep, faults: _Faults) -> None:
    seen: dict[tuple[str, str], Point] = {}
    for point in points:
        place = [["arms", point.arm]]
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
        faults.add([["arms"]], f"one table is about one dataset, not {', '.join(datasets)}: one sweep for each")


def _baseline(sweep: Sweep, faults: _Faults) -> str | None:
    name = sweep.settings.baseline
    alone = [arm for arm, arm_settings in sweep.arms.items() if not arm_settings.grid]
    if name is not None and name in sweep.arms and name not in alone:
        faults.add([["baseline"]], f"{name!r} has a grid, so it is several cells: take an arm without one")
    elif name is not None and sweep.settings.arms.get(name) is None:
        faults.add([["baseline"]], unknown(name, alone, what="arm"))
    return name


def _repeated(values: Sequence[Any]) -> list[Any]:
    return [value for index, value in enumerate(values) if value in values[:index]]
