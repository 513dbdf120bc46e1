"""Expansion of a sweep into the cells of its table and the stages from which they start, all valid configs."""

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
from fgssl.settings.layers import Layer, Place, locate, nested
from fgssl.settings.validation import unknown
from hpc.sweeps.sanity import sanity_faults
from hpc.sweeps.starts import misfits
from hpc.sweeps.sweep_file import Arm, Sweep, SweepSettings, read_sweep

_ROLES = tuple(entry.name for entry in dataclasses.fields(StartSettings))


@dataclass(frozen=True)
class Cell:
    """Row of the table: an arm with one choice of its grid's values. It runs once per seed."""

    name: str
    arm: str
    grid: Mapping[str, object]
    """Chosen value of each dotted key of the arm's grid."""
    config: Config
    """Config at seed 0, in which starts still name stages."""
    published: Mapping[str, float]
    """Published measures by name; empty if there are none for this dataset and these settings."""
    sanity: bool = False
    """Whether it is a sanity row."""


@dataclass(frozen=True)
class Grid:
    """Sweep after expansion and all checks."""

    file: Path
    preset: str | None
    settings: SweepSettings
    jobs: Layer
    """Requests of jobs on a cluster as they are written, with the places of the keys."""
    cells: Sequence[Cell]
    stages: Mapping[str, Config]
    """Config of each stage at seed 0, in which starts still name stages."""
    cautions: Sequence[str]
    """Warnings about the command line."""


def expand(file: Path, preset: str | None = None, overrides: Sequence[str] = ()) -> Grid:
    """Read, merge, expand and validate a sweep file; raise one `SettingsError` with all its problems.

    Only YAML files and published tables are read. Neither weights nor shards nor torch are needed.
    """
    sweep = read_sweep(file, preset, overrides)
    faults = _Faults(sweep.problems)
    _check_names_and_seeds(sweep, faults)
    stages = {
        name: config
        for name in sweep.stages
        if (config := _config(_stage_mapping(sweep, name), sweep, sweep.place("stages", name), faults))
    }
    sound = sweep.rows.keys() - _faulty_sanity_rows(sweep, faults)
    cells = [cell for name, arm in sweep.rows.items() if name in sound for cell in _cells(name, arm, sweep, faults)]
    _check_circles(stages, sweep, faults)
    _check_what_stages_train(stages, cells, sweep, faults)
    _check_cells(cells, sweep, faults)
    _check_baseline(sweep, faults)
    _check_primary(cells, sweep, faults)
    _check_shared_keys(sweep, faults)
    faults.raise_all()
    jobs = sweep.content.get("jobs", Layer())
    return Grid(file, sweep.preset, sweep.settings, jobs, cells, stages, sweep.cautions)


def needed_stages(config: Config) -> dict[str, str]:
    """Return the name of the stage from which each network (`encoder`, ...) starts."""
    return {role: source.stage for role, source in config.start.sources.items() if source.stage is not None}


class _Faults:
    """Problems in the order of their discovery, each once; one that several configs share lists all their places."""

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


def _cells(name: str, arm: Arm, sweep: Sweep, faults: _Faults) -> Iterator[Cell]:
    values: dict[str, Sequence[Any]] = {}
    for key, choices in arm.grid.items():
        place = sweep.place("arms", name, "grid", key)
        if not isinstance(choices, list):
            faults.add(place, f"{choices!r} is not allowed: give a list of values, e.g. [{_value_name(choices)}]")
        elif not choices:
            faults.add(place, "the list is empty: give at least one value, or leave the key out")
        elif repeated := _repeated(choices):
            faults.add(place, f"{repeated[0]!r} is given twice: give each value once")
        else:
            values[key] = choices
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        config = _config(_arm_mapping(sweep, name, chosen), sweep, sweep.place("arms", name), faults)
        if config is not None:
            published = _published(name, arm, config, sweep, faults)
            yield Cell(_cell_name(name, chosen), name, chosen, config, published, name in sweep.settings.sanity)


def _published(name: str, arm: Arm, config: Config, sweep: Sweep, faults: _Faults) -> Mapping[str, float]:
    if arm.reference is None:
        return {}
    settings = to_mapping(config)
    match = {
        column: settings.at(str(value), otherwise=value) if "." in str(value) else value
        for column, value in arm.reference.match.items()
    }
    try:
        return reference_values(arm.reference.table, config.data.dataset, match, folder=sweep.file.parent / "reference")
    except UserError as error:
        faults.add(sweep.place("arms", name, "reference"), str(error))
        return {}


def _stage_mapping(sweep: Sweep, name: str) -> Layer:
    """Return the settings of a stage. It is measured only if it has `evaluation` itself, since no table shows it."""
    partial = sweep.stages[name]
    measured = {} if "evaluation" in partial else {"evaluation": None}
    return sweep.settings.settings.merge(partial, CHOICES).merge(measured)


def _arm_mapping(sweep: Sweep, name: str, chosen: Mapping[str, object]) -> Layer:
    mapping = sweep.settings.settings.merge(sweep.rows[name].settings, CHOICES)
    if name in sweep.settings.sanity and mapping.at("evaluation.classifier"):
        mapping = mapping.merge({"evaluation": {"classifier": False}})  # none is trained; its columns stay empty
    for key, value in chosen.items():
        mapping = mapping.merge(nested(key, value, sweep.place("arms", name, "grid", key)), CHOICES)
    return mapping


def _cell_name(arm: str, chosen: Mapping[str, object]) -> str:
    return " ".join([arm, *(f"{key.rsplit('.', 1)[-1]}={_value_name(value)}" for key, value in chosen.items())])


def _value_name(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{_value_name(item)}" for key, item in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_value_name, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _config(mapping: Layer, sweep: Sweep, top: Place, faults: _Faults) -> Config | None:
    """Return the validated config at seed 0, or None after adding its problems.

    `top` is the place of its arm or stage.
    """
    if "seed" in mapping:
        faults.add(locate(mapping, ["seed"], top), "a sweep's seeds are listed in `seeds`")
    for role in _ROLES:
        stage = mapping.at(f"start.{role}.stage")
        if isinstance(stage, str) and stage not in sweep.stages:
            faults.add(locate(mapping, ["start", role, "stage"], top), unknown(stage, list(sweep.stages), what="stage"))
    try:
        return parse(mapping.merge({"seed": 0}), top)
    except SettingsError as error:
        for problem in error.problems:
            if problem == top.problem(problem.message):  # a problem of the config as a whole
                faults.add_to_config(top, problem.message)
            else:
                faults.problems.append(problem)
        return None


# ---------------------------------------------------------------------------------------------- checks


def _check_names_and_seeds(sweep: Sweep, faults: _Faults) -> None:
    if not re.fullmatch(r"\w[\w-]*", sweep.settings.name):
        faults.add(
            sweep.place("name"),
            f"{sweep.settings.name!r} is not allowed: use letters, digits, _ and - (it names a folder)",
        )
    for kind, names in (("arms", sweep.settings.arms), ("stages", sweep.settings.stages)):
        for name in names:
            if not re.fullmatch(r"[A-Za-z]\w*", name):
                faults.add(
                    sweep.place(kind, name),
                    f"{name!r} is not allowed as a name: begin with a letter; use letters, digits and _",
                )
    if not sweep.settings.seeds:
        faults.add(sweep.place("seeds"), "the list is empty: give at least one seed, e.g. [0, 1, 2]")
    if repeated := _repeated(sweep.settings.seeds):
        faults.add(sweep.place("seeds"), f"{repeated[0]} is given twice: give each seed once")
    if not any(arm is not None for arm in sweep.settings.arms.values()):
        faults.add(sweep.place("arms"), "there is no arm: give at least one")


def _check_shared_keys(sweep: Sweep, faults: _Faults) -> None:
    """Add a fault for each unknown key in the shared settings, which no config holds if all choose another `name`."""
    try:
        parse(_without_unnamed(sweep.settings.settings).merge({"seed": 0}), sweep.place("settings"))
    except SettingsError as error:
        faults.problems += [problem for problem in error.problems if problem.message.startswith("unknown key")]


def _without_unnamed(mapping: Layer, path: tuple[str, ...] = ()) -> Layer:
    """Return the settings, with choices emptied that have no `name`, whose keys are those of a later choice."""
    kept = Layer(mapping)
    for key, value in mapping.items():
        inner = (*path, key)
        if isinstance(value, Mapping):
            chosen = inner in CHOICES or (*path, "*") in CHOICES
            kept[key] = Layer() if chosen and "name" not in value else _without_unnamed(Layer(value), inner)
    return kept


def _check_circles(stages: Mapping[str, Config], sweep: Sweep, faults: _Faults) -> None:
    def follow(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = path[path.index(name) :]
            if name == min(circle):  # a circle is found from each of its stages: report it once
                faults.add(
                    sweep.place("stages", name, "start"),
                    f"stages need each other in a circle: {' needs '.join([*circle, name])}",
                )
        elif name in stages:
            for needed in needed_stages(stages[name]).values():
                follow(needed, (*path, name))

    for name in stages:
        follow(name, ())


def _check_what_stages_train(
    stages: Mapping[str, Config], cells: Sequence[Cell], sweep: Sweep, faults: _Faults
) -> None:
    """Add a fault for each start from a stage that does not train the network, or trains one that does not fit."""
    configs = [(config, _stage_mapping(sweep, name), sweep.place("stages", name)) for name, config in stages.items()]
    configs += [
        (cell.config, _arm_mapping(sweep, cell.arm, cell.grid), sweep.place("arms", cell.arm)) for cell in cells
    ]
    for config, mapping, top in configs:
        for role, stage in needed_stages(config).items():
            for misfit in misfits(role, stages[stage], config) if stage in stages else ():
                faults.add(locate(mapping, ["start", role, "stage"], top), f"stage {stage!r} {misfit}")


def _faulty_sanity_rows(sweep: Sweep, faults: _Faults) -> set[str]:
    """Add the faults of the sanity rows, and return the rows that cannot be expanded."""
    rows, shared = sweep.settings.sanity, sweep.settings.settings
    if repeated := _repeated(rows):
        faults.add(sweep.place("sanity"), f"{repeated[0]!r} is given twice: give each row once")
    found = {row: list(sanity_faults(row, shared, sweep.settings.arms)) for row in rows}
    for row, messages in found.items():
        for message in messages:
            faults.add(sweep.place("sanity", str(rows.index(row))), message)
    return {row for row, messages in found.items() if messages and row not in sweep.arms}


def _check_cells(cells: Sequence[Cell], sweep: Sweep, faults: _Faults) -> None:
    seen: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        place = sweep.place("arms", cell.arm)
        if cell.config.evaluation is None:
            faults.add(place, "evaluation is empty, but a cell of the table must be measured")
            continue
        same = seen.setdefault((training_fingerprint(cell.config), evaluation_fingerprint(cell.config)), cell)
        if same is not cell and same.config.start != cell.config.start:
            faults.add(
                place,
                f"cell {cell.name!r} differs from cell {same.name!r} only in the path of a start file, which does not "
                "enter a run's name: give each file its own sweep and --out",
            )
        elif same is not cell and same.name == cell.name:  # a number beside a text that is read as the same number
            there, here = (", ".join(map(repr, one.grid.values())) for one in (same, cell))
            faults.add(
                sweep.place("arms", cell.arm, "grid"),
                f"the values {there} and {here} give the same config, {cell.name!r}: keep one of them",
            )
        elif same is not cell:
            faults.add(place, f"cell {cell.name!r} is the same config as cell {same.name!r}: remove one of them")
    if len(datasets := sorted({cell.config.data.dataset for cell in cells})) > 1:
        faults.add(
            sweep.place("arms"),
            f"one table must be about one dataset, not {', '.join(datasets)}: write a sweep for each",
        )


def _check_baseline(sweep: Sweep, faults: _Faults) -> None:
    name = sweep.settings.baseline
    alone = [arm for arm, arm_settings in sweep.arms.items() if not arm_settings.grid]
    if name is not None and name in sweep.arms and name not in alone:
        faults.add(sweep.place("baseline"), f"{name!r} has a grid, so it makes several cells: take an arm without one")
    elif name is not None and sweep.settings.arms.get(name) is None:
        faults.add(sweep.place("baseline"), unknown(name, alone, what="arm"))


def _check_primary(cells: Sequence[Cell], sweep: Sweep, faults: _Faults) -> None:
    name = sweep.settings.primary
    for key, value, needed in (
        ("primary", name, "baseline"),
        ("equivalent_within", sweep.settings.equivalent_within, "primary"),
    ):
        if value is not None and getattr(sweep.settings, needed) is None:
            faults.add(sweep.place(key), f"needs the key `{needed}`, which is missing")
    evaluations = [cell.config.evaluation for cell in cells if cell.config.evaluation is not None]
    shown = dict.fromkeys(column.name for each in evaluations for column in each.columns if column.shown)
    if name is not None and shown and name not in shown:
        faults.add(sweep.place("primary"), unknown(name, list(shown), what="measure of the table"))


def _repeated(values: Sequence[Any]) -> list[Any]:
    return [value for index, value in enumerate(values) if value in values[:index]]
