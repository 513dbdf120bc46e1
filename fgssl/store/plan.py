"""plan.json: which runs make which cell of a sweep's table; the sweep writes it, rows and tables read it."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, JsonValue

from fgssl.errors import UserError
from fgssl.settings.config import Config
from fgssl.settings.measure import Column
from fgssl.store.files import read_record

PLAN = "plan.json"

SCHEMA = 2
"""Version of the file's form; raised when it changes."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    __pydantic_config__ = ConfigDict(extra="forbid")
    seed: int
    run: str
    """Name of its run folder."""
    config: Config


@dataclass(frozen=True, kw_only=True)
class PlannedStage(PlannedRun):
    """A run that others start from."""

    stage: str


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A row of the table: an arm with one choice of its grid's values, and a run for each seed."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    cell: str
    arm: str
    grid: dict[str, JsonValue]
    """Dotted keys that this cell varies; a cell of another arm need not have them."""
    columns: list[Column]
    """The measures of its runs; none else is missing in it."""
    runs: list[PlannedRun]


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """The whole file."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    schema: int
    sweep: str
    preset: str
    title: str
    dataset: str
    baseline: str | None
    """The cell that the others are compared with."""
    grid_keys: list[str]
    """Every dotted key that some cell varies, in the order of the columns."""
    metrics: list[str]
    """The measures that the table shows."""
    reference: dict[str, dict[str, float]]
    """Published value of a measure, by cell; empty where the dataset is not the published one."""
    cells: list[PlannedCell]
    stages: list[PlannedStage]

    @property
    def columns(self) -> dict[str, Column]:
        """The measures of all cells by name, in the order of the table."""
        return {column.name: column for cell in self.cells for column in cell.columns}


def read_plan(out: Path) -> PlanRecord:
    """The plan of the sweep whose output folder is `out`. Raises `UserError` where there is none or it does not fit."""
    file = out / PLAN
    plan = read_record(file, PlanRecord, schema=SCHEMA, advice="delete it and run the sweep again, it writes it anew")
    if plan is None:
        raise UserError(
            f"{file}: no such file: give the output folder of a sweep, which holds the plan that "
            "`fgssl sweep SWEEP.yaml --out DIR` wrote"
        )
    names = [cell.cell for cell in plan.cells]
    if plan.baseline is not None and plan.baseline not in names:
        raise UserError(f"{file}: baseline: there is no cell {plan.baseline!r}; the cells are {', '.join(names)}")
    return plan
