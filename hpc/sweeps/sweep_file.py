"""A sweep's YAML, its preset and the command line -> one typed `Sweep`, knowing where each key came from.

    name, title, source    which table or figure it reproduces
    seeds, baseline        every cell runs once per seed; differences are paired with the arm `baseline`
    settings               partial config that every run shares
    stages: {name: {...}}  partial config of runs that others start from, over `settings`
    arms: {name: {settings: {...}, grid: {dotted.key: [values]}, reference: {table, match}}}
    jobs: {default: {...}, NAME: {...}}  what jobs ask for; NAME is a stage or an arm (hpc.cluster.site.job_settings)
    retries                how often they are tried again on a cluster (hpc.sweeps.retries)
    preset, presets        the default one; {name: {extends: FILE, measured_minutes, any key above, over it}}

Order, later ones win: the file that the preset extends, the sweep, its own preset block, the command line. Null
removes an arm or a stage. A stage that nothing starts from is taken for mistyped, unless the extended file has it: that
one serves many sweeps.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgssl.errors import COMMAND_LINE, Problem, SettingsError
from fgssl.settings.config import CHOICES, Config, leaves, merge, nested, overlaps, override, parse_overrides, read_yaml
from fgssl.settings.declare import NonNegativeInt, PositiveFloat, settings
from fgssl.settings.validation import unknown, validate
from hpc.sweeps.retries import Retries


@settings
class ReferenceSettings:
    """Published values of an arm's cells."""

    table: str
    """Name of a file in `reference/` beside the sweep, without its ending."""
    match: dict[str, Any] = field(default_factory=dict)
    """Column of the table -> a fixed value, or the dotted key whose value is looked up."""


@settings
class Arm:
    """One line of a figure, or one row of a table: cells that differ in their grid values only."""

    settings: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    """Dotted key -> list of values; several keys are crossed."""
    reference: ReferenceSettings | None = None


@settings
class SweepSettings:
    """A merged sweep file."""

    name: str
    title: str = ""
    source: str = ""
    """Table or figure of the paper, e.g. `Fig. 6`."""
    baseline: str | None = None
    """Name of an arm without a grid."""
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    settings: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    arms: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    retries: Retries = Retries()
    measured_minutes: PositiveFloat | None = None
    """Wall time of all runs on 2 cores, for the estimate before any run has finished."""


_SWEEP_KEYS = tuple(entry.name for entry in dataclasses.fields(SweepSettings))
_ON_COMMAND_LINE = tuple(key for key in _SWEEP_KEYS if key != "measured_minutes")
_CONFIG_KEYS = tuple(entry.name for entry in dataclasses.fields(Config))
_CHOICES = [(*place, *path) for place in (["settings"], ["stages", "*"], ["arms", "*", "settings"]) for path in CHOICES]


@dataclass(frozen=True)
class Layer:
    """One of the mappings that were merged."""

    source: str
    prefix: str
    """Of its keys in that file, e.g. `presets.demo.`."""
    mapping: Mapping[str, Any]
    extended: bool = False
    """Whether it is the file that the preset extends."""

    def holds(self, path: Sequence[str]) -> bool:
        inner: Any = self.mapping
        for part in path:
            if not isinstance(inner, Mapping) or part not in inner:
                return False
            inner = inner[part]
        return True


@dataclass(frozen=True)
class Sweep:
    """What the file, the preset and the command line say together."""

    file: Path
    preset: str | None
    settings: SweepSettings
    arms: Mapping[str, Arm]
    stages: Mapping[str, Mapping[str, Any]]
    layers: Sequence[Layer]
    """Lowest first."""
    problems: Sequence[Problem]
    """Found so far; the expansion adds its own, so that all are shown at once."""

    def problem(self, paths: Sequence[Sequence[str]], message: str) -> Problem:
        """A problem at the first of `paths` that a layer holds, highest layer first, else at the nearest parent."""
        for path in paths:
            for layer in reversed(self.layers):
                if layer.holds(path):
                    return Problem(layer.source, _shown(layer, path), message)
        if all(len(path) <= 1 for path in paths):
            return Problem(str(self.file), ".".join(paths[0]), message)
        return self.problem([path[:-1] if len(path) > 1 else path for path in paths], message)

    def placed(self, problem: Problem) -> Problem:
        """A problem that was met later, at the layer that has its very key, if one does."""
        path = problem.key.split(".")
        held = any(layer.holds(path) for layer in self.layers)
        return self.problem([path], problem.message) if held and problem.source == str(self.file) else problem


def read_sweep(file: Path, preset: str | None = None, overrides: Sequence[str] = ()) -> Sweep:
    """Read and merge everything; `preset` None takes the file's own default.

    Raises `SettingsError` where there is nothing to go on with; other faults are collected in `Sweep.problems`.
    """
    problems: list[Problem] = []
    content = read_yaml(file)
    if not set(content) & {*_SWEEP_KEYS, "presets"} and set(content) & set(_CONFIG_KEYS):
        raise SettingsError([Problem(str(file), "", f"no sweep but one run's config: fgssl train {file}")])
    chosen, layers = _file_layers(file, content, preset, problems)
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.mapping, _CHOICES)
    command_line = _command_line_layer(merged, overrides, problems)
    layers.append(command_line)
    merged = override(merged, command_line.mapping, _CHOICES)

    sweep = Sweep(file, chosen, SweepSettings(name=file.stem), {}, {}, layers, ())
    checked = _validate_sweep(merged, sweep, problems)
    arms = {}
    for name, mapping in checked.arms.items():
        if mapping is None:
            continue
        try:
            arms[name] = validate(mapping, Arm, str(file))
        except SettingsError as error:
            for problem in error.problems:
                problems.append(sweep.problem([["arms", name, *problem.key.split(".")]], problem.message))
            # The expansion goes on without this arm, so that the other arms' faults are found too.
    stages = {name: mapping for name, mapping in checked.stages.items() if mapping is not None}
    problems += _mistyped_stages(stages, sweep)
    return dataclasses.replace(sweep, settings=checked, arms=arms, stages=stages, problems=problems)


def preset_names(file: Path) -> list[str]:
    """Names of the presets that a sweep file offers."""
    presets = read_yaml(file).get("presets")
    return list(presets) if isinstance(presets, Mapping) else []


def _file_layers(
    file: Path, content: dict[str, Any], preset: str | None, problems: list[Problem]
) -> tuple[str | None, list[Layer]]:
    presets = content.get("presets") or {}
    if not isinstance(presets, Mapping) or not all(isinstance(block, Mapping | None) for block in presets.values()):
        raise SettingsError([Problem(str(file), "presets", "must hold `name: {...}` pairs")])
    root = Layer(str(file), "", {key: value for key, value in content.items() if key not in ("preset", "presets")})
    chosen = preset if preset is not None else content.get("preset")
    if chosen is None and presets:
        names = ", ".join(presets)
        raise SettingsError(
            [
                Problem(
                    str(file), "preset", f"none is chosen: write `preset: NAME` or give --preset NAME; there: {names}"
                )
            ]
        )
    layers = [root]
    if chosen is not None and chosen not in presets:
        place = (COMMAND_LINE, "--preset") if preset is not None else (str(file), "preset")
        # Alone: what the preset would have brought is missed everywhere else.
        raise SettingsError([Problem(*place, unknown(str(chosen), list(presets), what="preset"))])
    if chosen is not None:
        block = dict(presets[chosen] or {})
        extended = block.pop("extends", None)
        if extended is not None:
            beside = file.parent / str(extended)
            layers.insert(0, Layer(str(beside), "", read_yaml(beside), extended=True))
        layers.append(Layer(str(file), f"presets.{chosen}.", block))
    for layer in layers:
        known = (*_SWEEP_KEYS, "preset", "presets") if layer is root else _SWEEP_KEYS
        for key in layer.mapping:
            if key not in known:
                problems.append(Problem(layer.source, f"{layer.prefix}{key}", unknown(str(key), known)))
    return (str(chosen) if chosen is not None else None), layers


def _mistyped_stages(stages: Collection[str], sweep: Sweep) -> Iterator[Problem]:
    """Stages that no layer names as a start, whatever the other layers make of it, and the extended file has not."""
    started = {name for layer in sweep.layers for name in _named_stages(layer.mapping) if isinstance(name, str)}
    extended = {name for layer in sweep.layers if layer.extended for name in stages if layer.holds(["stages", name])}
    known = sorted(started | extended)
    for name in stages:
        if name not in known:
            message = f"nothing starts from it: name it in a `start: {{encoder: {{stage: {name}}}}}`, or set it to null"
            if known:
                message = f"{unknown(name, known, what='stage')}; {message}"
            yield sweep.problem([["stages", name]], message)


def _named_stages(content: Any) -> Iterator[Any]:
    """Every name at a key `stage`, also at a grid's dotted key, however deep."""
    if isinstance(content, list | tuple):
        for item in content:
            yield from _named_stages(item)
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if str(key).rpartition(".")[2] == "stage":
                yield from value if isinstance(value, list | tuple) else [value]
            else:
                yield from _named_stages(value)


def _validate_sweep(merged: Mapping[str, Any], sweep: Sweep, problems: list[Problem]) -> SweepSettings:
    known = {key: value for key, value in merged.items() if key in _SWEEP_KEYS}
    try:
        return validate(known, SweepSettings, str(sweep.file))
    except SettingsError as error:
        problems += [sweep.problem([problem.key.split(".")], problem.message) for problem in error.problems]
        faulty = {problem.key.split(".")[0] for problem in error.problems}
    # Once more without the faulty keys, so that the rest is checked too.
    return validate({"name": sweep.file.stem} | {k: v for k, v in known.items() if k not in faulty}, SweepSettings, "")


# ------------------------------------------------------------------------------------------ command line


def _command_line_layer(merged: Mapping[str, Any], overrides: Sequence[str], problems: list[Problem]) -> Layer:
    mapping: dict[str, Any] = {}
    for key, value in parse_overrides(overrides).items():
        path = _command_line_path(merged, key, value, problems)
        if path is not None:
            addition = value
            for part in reversed(path):
                addition = {part: addition}
            mapping = merge(mapping, addition, _CHOICES)
    return Layer(COMMAND_LINE, "", mapping)


def _command_line_path(merged: Mapping[str, Any], key: str, value: Any, problems: list[Problem]) -> list[str] | None:
    """Where an override goes in the sweep; None after adding a problem."""
    parts = key.split(".")
    first = parts[0]
    if first in ("preset", "presets"):
        problems.append(Problem(COMMAND_LINE, key, "choose a preset with --preset NAME"))
    elif first == "seed":
        problems.append(Problem(COMMAND_LINE, key, f"a sweep has several: seeds=[{value}]"))
    elif first in _CONFIG_KEYS:
        setters = _who_sets(merged, parts, value)
        if not setters:
            return ["settings", *parts]
        problems.append(
            Problem(
                COMMAND_LINE,
                key,
                f"{' and '.join(setters)} set this key and would win over it: give settings.{key}=... to change all "
                f"the others, or {setters[0]}=... to change that one",
            )
        )
    elif first not in _ON_COMMAND_LINE:
        problems.append(Problem(COMMAND_LINE, key, unknown(first, [*_ON_COMMAND_LINE, *_CONFIG_KEYS])))
    elif first in ("arms", "stages") and len(parts) > 1 and parts[1] not in (merged.get(first) or {}):
        problems.append(Problem(COMMAND_LINE, key, unknown(parts[1], list(merged.get(first) or {}), what=first[:-1])))
    elif first == "arms" and len(parts) > 3 and parts[2] == "grid":
        return [*parts[:3], ".".join(parts[3:])]  # a grid's keys are dotted, not nested
    else:
        return parts
    return None


def _who_sets(merged: Mapping[str, Any], parts: Sequence[str], value: Any) -> list[str]:
    """Dotted keys of the arms, grids and stages that set what an override to `settings` sets."""
    setters = []
    keys = leaves(nested(".".join(parts), value))
    for kind, inside in (("arms", "settings."), ("stages", "")):
        for name, entry in (merged.get(kind) or {}).items():
            if not isinstance(entry, Mapping):
                continue
            there = entry if kind == "stages" else entry.get("settings") or {}
            set_there = leaves(there) if isinstance(there, Mapping) else {}
            setters += [f"{kind}.{name}.{inside}{key}" for key in keys if overlaps(key, set_there)]
            grid = entry.get("grid") if kind == "arms" else None
            if isinstance(grid, Mapping):
                setters += [f"arms.{name}.grid.{key}" for key in keys if overlaps(key, map(str, grid))]
    return setters


def _shown(layer: Layer, path: Sequence[str]) -> str:
    """The key as the user wrote it: on the command line, `settings.` may be left out."""
    key = ".".join(path)
    return key.removeprefix("settings.") if layer.source == COMMAND_LINE else layer.prefix + key
