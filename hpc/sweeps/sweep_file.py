"""Sweep file: a YAML, its preset and the command line, merged into one typed `Sweep` with the place of each key.

    name, title, source    name of its folder; table or figure that it reproduces
    seeds, baseline        every cell runs once per seed; differences from the arm `baseline` are paired by seed
    settings               partial config that every run shares
    stages: {name: {...}}  partial config, over `settings`, of runs from which others start
    primary                measure whose differences are tested together; equivalent_within: one that does not matter
    arms: {name: {settings: {...}, grid: {dotted.key: [values]}, reference: {table, match}}}
    sanity                 rows without a method, beside which the arms must stand out (hpc.sweeps.sanity)
    jobs: {default: {...}, NAME: {...}}  requests of jobs; NAME is a stage or an arm (hpc.cluster.site.job_settings)
    retries                repetitions of a run on a cluster (hpc.sweeps.retries)
    preset, presets        the default preset; {name: {extends: FILE, measured_minutes, any key above}}

Later layers win: first the file that the preset extends, then the sweep, its own preset block, the command line. Null
removes an arm or a stage. A stage from which nothing starts is taken for mistyped, unless the extended file has it,
since that file serves many sweeps.
"""

import dataclasses
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from fgssl.errors import COMMAND_LINE, Problem, SettingsError
from fgssl.settings.config import CHOICES, Config
from fgssl.settings.declare import NonNegativeInt, PositiveFloat, settings
from fgssl.settings.layers import (
    Layer,
    Place,
    locate,
    nested,
    overlaps,
    parse_overrides,
    read_yaml,
)
from fgssl.settings.validation import unknown, validate, without_faults
from hpc.sweeps.retries import Retries
from hpc.sweeps.sanity import SANITY, SanityRow


@settings
class ReferenceSettings:
    """Published values of an arm's cells."""

    table: str
    """Name of a file in `reference/` beside the sweep, without `.csv`."""
    match: dict[str, JsonValue] = field(default_factory=dict)
    """Value of each column that selects the line of the table: a fixed value, or the dotted key of a setting."""


@settings
class Arm:
    """Cells that differ in their grid values only: a row of a table, or a line of a figure."""

    settings: Layer = field(default_factory=Layer)
    """Partial config over the `settings` of the sweep."""
    grid: Layer = field(default_factory=Layer)
    """List of values of each dotted key. Several keys are crossed. By default an arm is one cell."""
    reference: ReferenceSettings | None = None
    """Published values beside which the table puts its own, if there are any."""


@settings
class SweepSettings:
    """Keys of a sweep file."""

    name: str
    """Name of the sweep, of letters, digits, _ and -. It names the default output folder."""
    title: str = ""
    """Title of the table."""
    source: str = ""
    """Table or figure of the paper, such as `Fig. 6`."""
    baseline: str | None = None
    """Name of an arm without a grid, with which the other cells are compared. If empty, no differences are shown."""
    primary: str | None = None
    """Measure that the sweep is about, such as `linear_100`. Its differences from the baseline are tested as one family
    (Holm), and only they can be bold in the table; all other measures are exploratory. Choose it before the runs."""
    equivalent_within: PositiveFloat | None = None
    """Difference of the primary measure, in its unit, that does not matter. If it is given, the table tests whether
    each cell lies within that distance of the baseline, which a large p value of a difference does not show."""
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    """Seeds at which every cell runs. Three give a mean and a spread."""
    settings: Layer = field(default_factory=Layer)
    """Partial config that every run shares."""
    stages: dict[str, Layer | None] = field(default_factory=dict)
    """Partial config, over `settings`, of runs from which others start at the same seed. Null removes a stage."""
    arms: dict[str, Layer | None] = field(default_factory=dict)
    """Keys of `Arm`, by the name of the arm. Null removes an arm."""
    sanity: tuple[SanityRow, ...] = ()
    """Rows without a method, which show what the arms must surpass, under the shared `settings`: `pixels` (the pixels
    themselves), `random_weights` (the encoder with random weights), `start_encoder` (the encoder with its start
    weights), `chance` (random features). Nothing is trained for them. They stand in a block of their own, and are
    never compared with the baseline."""
    jobs: dict[str, Layer | None] = field(default_factory=dict)
    """Requests of jobs on a cluster: those of `default`, and over them those of a stage, an arm or a sanity row."""
    retries: Retries = Retries()
    """Repetitions of a run on a cluster."""
    measured_minutes: PositiveFloat | None = None
    """Wall time of all runs on 2 cores, in minutes, from which the rest is estimated before any run has finished."""


_SWEEP_KEYS = tuple(entry.name for entry in dataclasses.fields(SweepSettings))
_ON_COMMAND_LINE = tuple(key for key in _SWEEP_KEYS if key != "measured_minutes")
_CONFIG_KEYS = tuple(entry.name for entry in dataclasses.fields(Config))
_CHOICES = [(*place, *path) for place in (["settings"], ["stages", "*"], ["arms", "*", "settings"]) for path in CHOICES]


@dataclass(frozen=True)
class Sweep:
    """Sweep file, preset and command line, merged."""

    file: Path
    preset: str | None
    content: Layer
    """Merged keys as they are written, with their places and without faulty values."""
    settings: SweepSettings
    arms: dict[str, Arm]
    problems: list[Problem]
    """Problems found so far. The expansion adds its own, so that all are reported at once."""
    cautions: list[str]
    """Warnings about the command line."""

    @property
    def rows(self) -> dict[str, Arm]:
        """Arms, and the sanity rows as arms, which follow them."""
        found = dict(self.arms)
        for name in self.settings.sanity:
            found.setdefault(name, Arm(settings=Layer(SANITY[name])))
        return found

    @property
    def stages(self) -> Mapping[str, Layer]:
        """Stages that are not removed."""
        return {name: stage for name, stage in self.settings.stages.items() if stage is not None}

    def place(self, *path: str) -> Place:
        """Return the place of the key at `path` in the merged sweep; a sanity row stands in the list `sanity`."""
        if path[:1] == ("arms",) and len(path) > 1 and path[1] in {*self.settings.sanity} - self.settings.arms.keys():
            path = ("sanity", str(self.settings.sanity.index(path[1])))
        return locate(self.content, path, Place(str(self.file)))


def read_sweep(file: Path, preset: str | None = None, overrides: Sequence[str] = ()) -> Sweep:
    """Read and merge a sweep file, a preset (None means the file's default) and overrides.

    Raise a `SettingsError` for faults that make merging impossible; `Sweep.problems` collects all others.
    """
    content = read_yaml(file)
    if not set(content) & {*_SWEEP_KEYS, "presets"} and set(content) & set(_CONFIG_KEYS):
        raise SettingsError(
            [
                Problem(
                    str(file),
                    "",
                    f"is the config of one run, not a sweep: start it with `fgssl train {shlex.quote(str(file))}`",
                )
            ]
        )
    chosen, block = _preset(file, content, preset)
    extended = read_yaml(file.parent / str(block["extends"])) if block.get("extends") is not None else Layer()
    problems = list[Problem]()
    for layer, own in ((extended, ()), (content, ("preset", "presets")), (block, ("extends",))):
        problems += _unknown_keys(layer, own)
    layers = [layer.only(_SWEEP_KEYS) for layer in (extended, content, block)]
    merged = Layer()
    for layer in layers:
        merged = merged.merge(layer, _CHOICES)
    command_line = _command_line(merged, overrides, problems)
    merged, cautions = merged.override(command_line, _CHOICES)

    merged, found = without_faults(merged, SweepSettings, str(file), instead={"name": file.stem})
    problems += found
    sweep = Sweep(file, chosen, merged, validate(merged, SweepSettings, str(file)), {}, problems, cautions)
    for name, arm in sweep.settings.arms.items():
        try:
            if arm is not None:
                sweep.arms[name] = validate(arm, Arm, sweep.place("arms", name))
        except SettingsError as error:
            # The expansion goes on without this arm, to find the faults of other arms too.
            problems += error.problems
    started = {name for layer in (*layers, command_line) for name in _named_stages(layer)}
    shared = extended["stages"] if isinstance(extended.get("stages"), Mapping) else ()
    problems += _mistyped_stages(sweep, {*started, *(name for name in sweep.stages if name in shared)})
    return sweep


def preset_names(file: Path) -> list[str]:
    """Return the names of the presets that a sweep file offers."""
    presets = read_yaml(file).get("presets")
    return list(presets) if isinstance(presets, Mapping) else []


def _preset(file: Path, content: Layer, preset: str | None) -> tuple[str | None, Layer]:
    """Return the chosen preset's name and block."""
    presets = content.get("presets") or {}
    place = locate(content, ["presets"], Place(str(file)))
    if not isinstance(presets, Mapping):
        raise SettingsError([place.problem("must hold `name: {...}` pairs")])
    if faulty := [name for name, block in presets.items() if not isinstance(block, Mapping | None)]:
        places = [locate(content, ["presets", name], Place(str(file))) for name in faulty]
        raise SettingsError([each.problem("must be a mapping `{...}` of keys of a sweep") for each in places])
    chosen = preset if preset is not None else content.get("preset")
    if chosen is None and presets:
        message = f"no preset is chosen: write `preset: NAME` or give --preset NAME, one of {', '.join(presets)}"
        raise SettingsError([Problem(str(file), "preset", message)])
    if chosen is not None and chosen not in list(presets):  # the value may be anything, hashable or not
        place = Place(COMMAND_LINE, "--preset") if preset is not None else locate(content, ["preset"], Place(str(file)))
        # Reported alone, because the keys of the preset would be missing everywhere else.
        raise SettingsError([place.problem(unknown(str(chosen), list(presets), what="preset"))])
    return (None, Layer()) if chosen is None else (str(chosen), presets[chosen] or Layer())


def _unknown_keys(layer: Layer, own: Sequence[str]) -> Iterator[Problem]:
    known = (*_SWEEP_KEYS, *own)
    for key in layer:
        if key not in known:
            yield layer.places[str(key)].problem(unknown(str(key), known))


def _mistyped_stages(sweep: Sweep, known: Collection[str]) -> Iterator[Problem]:
    """Yield a problem for each stage that is not `known`: no run starts from it, and the extended file lacks it."""
    for name in sweep.stages:
        if name not in known:
            message = f"nothing starts from it: name it in a `start: {{encoder: {{stage: {name}}}}}`, or set it to null"
            if known:
                message = f"{unknown(name, sorted(known), what='stage')}; {message}"
            yield sweep.place("stages", name).problem(message)


def _named_stages(content: Any) -> Iterator[str]:
    """Yield each name at a key `stage`, at any depth and in dotted keys of a grid."""
    if isinstance(content, list | tuple):
        for item in content:
            yield from _named_stages(item)
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if str(key).rpartition(".")[2] == "stage":
                yield from (name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str))
            else:
                yield from _named_stages(value)


# ------------------------------------------------------------------------------------------ command line


def _command_line(merged: Layer, overrides: Sequence[str], problems: list[Problem]) -> Layer:
    """Return the overrides as a layer of the sweep; add a problem for each key that a sweep does not have."""
    given, layer = parse_overrides(overrides), Layer()
    for key, value in given.items():
        try:
            path = _command_line_path(merged, key, value)
        except ValueError as error:
            problems.append(Problem(COMMAND_LINE, key, str(error)))
        else:
            layer = layer.merge(nested(path, value, given.places[key]), _CHOICES)
    return layer


def _command_line_path(merged: Layer, key: str, value: object) -> list[str]:
    """Return the path of an override in the sweep; raise a `ValueError` with the message if there is none."""
    first, *rest = parts = key.split(".")
    if first in ("preset", "presets"):
        raise ValueError("choose a preset with --preset NAME")
    if first == "seed":
        raise ValueError(f"a sweep has several seeds: give seeds=[{value}]")
    if first in _CONFIG_KEYS:
        if setters := _who_sets(merged, parts, value):
            verb, owner = "sets" if len(setters) == 1 else "set", ".".join(setters[0].split(".")[:2])
            raise ValueError(
                f"{' and '.join(setters)} {verb} this key and would override yours: give settings.{key}=... to change "
                f"all others, or {setters[0]}=... to change {owner}"
            )
        return ["settings", *parts]
    if first not in _ON_COMMAND_LINE:
        raise ValueError(unknown(first, [*_ON_COMMAND_LINE, *_CONFIG_KEYS]))
    if first in ("arms", "stages") and rest and rest[0] not in (merged.get(first) or {}):
        raise ValueError(unknown(rest[0], list(merged.get(first) or {}), what=first[:-1]))
    if first == "arms" and len(rest) > 2 and rest[1] == "grid":
        return [*parts[:3], ".".join(parts[3:])]  # a grid's keys are dotted, not nested
    return parts


def _who_sets(merged: Layer, parts: Sequence[str], value: object) -> list[str]:
    """Return the dotted keys in arms, grids and stages that set the same as an override of `settings`."""
    setters = []
    keys = nested(parts, value).leaves()
    for kind, inside in (("arms", "settings."), ("stages", "")):
        for name, entry in (merged.get(kind) or {}).items():
            if not isinstance(entry, Mapping):
                continue
            there = entry if kind == "stages" else entry.get("settings") or {}
            set_there = Layer(there).leaves() if isinstance(there, Mapping) else {}
            setters += [f"{kind}.{name}.{inside}{key}" for key in keys if overlaps(key, set_there)]
            grid = entry.get("grid") if kind == "arms" else None
            if isinstance(grid, Mapping):
                setters += [f"arms.{name}.grid.{key}" for key in keys if overlaps(key, map(str, grid))]
    return setters
