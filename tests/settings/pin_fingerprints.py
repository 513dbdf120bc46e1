"""Fingerprints of all runs of the shipped sweeps; `python -m tests.settings.pin_fingerprints` rewrites the file.

A run folder is found by its fingerprint: if one changes, all users train the runs of that sweep again.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fgssl.settings.config import Config, StartSource
from fgssl.settings.fingerprints import evaluation_fingerprint, scientific, training_fingerprint
from fgssl.settings.layers import Layer
from hpc.sweeps.grid import expand, needed_stages
from hpc.sweeps.sweep_file import preset_names

PINNED = Path(__file__).with_name("fingerprints.json")
SWEEPS = Path(__file__).parents[2] / "sweeps"
ADVICE = """\
What to do:
  - a setting was added: declare it with `added_later` (fgssl/settings/declare.py); the fingerprints are then as before
  - a setting means something else now: raise SCHEMA (fgssl/settings/fingerprints.py), and pin
  - a sweep or a default was changed on purpose: say so in CHANGELOG.md, since these runs are trained again, and pin
To pin: python -m tests.settings.pin_fingerprints"""

Table = dict[str, Any]
"""Table with three keys. `defaults` holds the leaves of the default config. `sweeps` holds, by sweep and preset, the
`settings` that differ from them in all runs, and `runs` by label, with their fingerprints and `settings` that differ.
"""


def table() -> Table:
    """Compute the current fingerprints."""
    defaults = Layer(scientific(Config())).leaves()
    cases = [(file, preset) for file in sorted(SWEEPS.glob("*.yaml")) for preset in preset_names(file)]
    return {
        "defaults": defaults,
        "sweeps": {f"{file.stem} {preset}": _of(file, preset, defaults) for file, preset in cases},
    }


def _of(file: Path, preset: str, defaults: Mapping[str, Any]) -> Table:
    grid = expand(file, preset)
    configs = {f"stage {name}": _started(config) for name, config in grid.stages.items()}
    configs |= {cell.name: _started(cell.config) for cell in grid.cells}
    own = {label: _differences(defaults, Layer(scientific(config)).leaves()) for label, config in configs.items()}
    first = next(iter(own.values()))
    shared = {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in own.values())
    }
    runs = {
        label: {
            "training": training_fingerprint(config),
            "evaluation": evaluation_fingerprint(config),
            "settings": _differences(shared, own[label]),
        }
        for label, config in configs.items()
    }
    return {"settings": shared, "runs": runs}


def _started(config: Config) -> Config:
    """Return the config with a run in place of each stage from which it starts, as in a plan."""
    starts = {role: StartSource(run=f"stage:{name}") for role, name in needed_stages(config).items()}
    return dataclasses.replace(config, start=dataclasses.replace(config.start, **starts))


def _differences(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in above.items() if key not in below or below[key] != value}


def text(content: Table) -> str:
    """Format a table as JSON, with one line per run."""

    def entry(name: str, value: Any) -> str:
        return f"{json.dumps(name)}: {json.dumps(value)}"

    sweeps = [
        f'{json.dumps(name)}: {{\n{entry("settings", sweep["settings"])},\n"runs": {{\n'
        + ",\n".join(entry(label, run) for label, run in sweep["runs"].items())
        + "\n}}"
        for name, sweep in content["sweeps"].items()
    ]
    return f'{{{entry("defaults", content["defaults"])},\n"sweeps": {{\n' + ",\n".join(sweeps) + "\n}}\n"


def changes(before: Table, now: Table) -> list[str]:
    """Return a line for each run whose fingerprint changed, with the settings that changed in it."""
    return [
        f"{sweep}, {label}: {', '.join(kinds)} fingerprint: {'; '.join(settings) or 'no setting, so the hash itself'}"
        for sweep, label in dict.fromkeys([*_labels(before), *_labels(now)])
        for kinds, settings in [_change(before, now, sweep, label)]
        if kinds
    ]


def _labels(content: Table) -> Iterator[tuple[str, str]]:
    for sweep, there in content["sweeps"].items():
        for label in there["runs"]:
            yield sweep, label


def _change(before: Table, now: Table, sweep: str, label: str) -> tuple[list[str], list[str]]:
    missing: Table = {"settings": {}, "runs": {}}
    there, here = (content["sweeps"].get(sweep, missing) for content in (before, now))
    old, new = there["runs"].get(label), here["runs"].get(label)
    if old is None or new is None:
        return ["a new" if old is None else "no longer a"], ["the sweep's cells"]
    kinds = [kind for kind in ("training", "evaluation") if old[kind] != new[kind]]
    was = before["defaults"] | there["settings"] | old["settings"]
    now_is = now["defaults"] | here["settings"] | new["settings"]
    keys = [key for key in {**was, **now_is} if was.get(key, "(none)") != now_is.get(key, "(none)")]
    return kinds, [f"{key} {was.get(key, '(none)')} -> {now_is.get(key, '(none)')}" for key in keys]


if __name__ == "__main__":
    PINNED.write_text(text(table()))
