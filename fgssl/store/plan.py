"""Plan of a sweep (plan.json): the runs of each cell of its table. The sweep writes it; rows and tables read it."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, JsonValue

from fgssl.errors import UserError
from fgssl.settings.config import Config
from fgssl.settings.measure import Column
from fgssl.store.files import read_record

PLAN = "plan.json"

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

    @property
    def columns(self) -> dict[str, Column]:
        """Measures of all cells by name, in the order of the table."""
        return {column.name: column for cell in self.cells for column in cell.columns}


def read_plan(out: Path) -> PlanRecord:
    """Return the plan of the sweep whose output folder is `out`; raise a `UserError` if it is missing or damaged."""
    file = out / PLAN
    plan = read_record(
        file, PlanRecord, schema=SCHEMA, advice="delete it and run the sweep again, which writes it anew"
    )
    if plan is None:
        raise UserError(
            f"{file}: no such file: give the output folder of a sweep, which holds the plan that "
            "`fgssl sweep SWEEP.yaml --out DIR` wrote"
        )
    names = [cell.cell for cell in plan.cells]
    if plan.baseline is not None and plan.baseline not in names:
        raise UserError(f"{file}: baseline: there is no cell {plan.baseline!r}; the cells are {', '.join(names)}")
    return plan
