"""Plan of a sweep (plan.json): the runs of each cell of its table. The sweep writes it; rows and tables read it."""

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, JsonValue

from fgssl.errors import UserError, alternatives
from fgssl.settings.config import Config
from fgssl.settings.layers import read_yaml
from fgssl.settings.measure import Column
from fgssl.store.files import read_record

PLAN = "plan.json"
_LISTED, _LISTED_KEYS = 5, 3

SCHEMA = 2
"""Version of the file's layout; raised when it changes."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """Run at one seed."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    seed: int
    run: str
    """Name of its run folder."""
    config: Config


@dataclass(frozen=True, kw_only=True)
class PlannedStage(PlannedRun):
    """Run of a stage, from which other runs start."""

    stage: str
    """Name of the stage."""


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """Row of the table: an arm with one choice of its grid's values, and a run for each seed."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    cell: str
    arm: str
    grid: dict[str, JsonValue]
    """Values of the dotted keys that this arm varies; other arms may vary others."""
    columns: list[Column]
    """Measures of its runs. Other columns of the table are left empty and do not count as missing."""
    runs: list[PlannedRun]
    sanity: bool = False
    """Whether it is a sanity row, which has no method and is never compared with the baseline."""


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """Content of plan.json."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    schema: int
    sweep: str
    preset: str
    title: str
    dataset: str
    baseline: str | None
    """Name of the cell with which the others are compared, or None."""
    grid_keys: list[str]
    """Dotted keys that any cell varies, in the order of the columns."""
    metrics: list[str]
    """Names of the measures that the table shows."""
    reference: dict[str, dict[str, float]]
    """Published value of each measure, by cell; empty if the dataset is not the published one."""
    cells: list[PlannedCell]
    stages: list[PlannedStage]
    primary: str | None = None
    """Name of the metric whose differences from the baseline are tested together, or None."""
    equivalent_within: float | None = None
    """Largest difference of the primary metric that does not matter, in its unit, or None if no such claim is made."""

    @functools.cached_property
    def columns(self) -> dict[str, Column]:
        """Measures of all cells by name, in the order of the table."""
        return {column.name: column for cell in self.cells for column in cell.columns}

    @property
    def of_arms(self) -> list[PlannedCell]:
        """Cells but the sanity rows."""
        return [cell for cell in self.cells if not cell.sanity]

    @functools.cached_property
    def comparisons(self) -> int:
        """Size of the family of the primary metric: the number of cells that are compared with the baseline."""
        asked = [cell for cell in self.of_arms if self.primary in [column.name for column in cell.columns]]
        return max(1, len([cell for cell in asked if cell.cell != self.baseline]))

    @property
    def labels(self) -> dict[str, str]:
        """Stage or cell and seed of each run, by the name of its folder."""
        named: list[tuple[PlannedRun, str]] = [(stage, stage.stage) for stage in self.stages]
        named += [(run, cell.cell) for cell in self.cells for run in cell.runs]
        found: dict[str, str] = {}
        for run, name in named:
            found.setdefault(run.run, f"{name}, seed {run.seed}")
        return found


def listed_runs(out: Path) -> str:
    """Return advice that names the run folders in `out`, each with its cell and seed; empty if there are none.

    Without a plan, the settings in which the runs differ stand in place of these.
    """
    runs = sorted(config.parent for config in out.glob("runs/*/config.yaml"))
    shown = runs[:_LISTED]
    labels: Mapping[str, str] = {}
    with contextlib.suppress(UserError):
        labels = read_plan(out).labels
    settings = [read_yaml(run / "config.yaml").leaves() for run in shown]
    keys = [key for key in settings[0] if any(each.get(key) != settings[0][key] for each in settings)] if shown else []
    listed = [
        f"\n  {run}  ({labels.get(run.name) or ', '.join(f'{key} {each.get(key)}' for key in keys[:_LISTED_KEYS])})"
        for run, each in zip(shown, settings, strict=True)
    ]
    more = f"\n  and {len(runs) - len(shown)} more" if len(runs) > len(shown) else ""
    return f" but an output folder: give one of its runs:{''.join(listed)}{more}" if runs else ""


def no_sweep(out: Path) -> UserError:
    """Return the error about a folder that is not the output folder of a sweep."""
    what = f"holds no sweep ({PLAN} is missing):" if out.is_dir() else f"no such folder: {alternatives(out)};"
    advice = "give the output folder of a sweep (--out of `fgssl sweep`, by default outputs/NAME-PRESET)"
    return UserError(f"{out}: {what} {advice}")


def read_plan(out: Path) -> PlanRecord:
    """Return the plan of the sweep whose output folder is `out`; raise a `UserError` if it is missing or damaged."""
    file = out / PLAN
    plan = read_record(
        file, PlanRecord, schema=SCHEMA, advice="delete it and run the sweep again, which writes it anew"
    )
    if plan is None:
        raise no_sweep(out)
    names = [cell.cell for cell in plan.cells]
    if plan.baseline is not None and plan.baseline not in names:
        raise UserError(f"{file}: baseline: there is no cell {plan.baseline!r}; the cells are {', '.join(names)}")
    return plan
