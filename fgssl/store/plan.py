"""plan.json: which runs make which cell of a sweep's table; the sweep writes it, rows and tables read it."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fgssl.errors import UserError
from fgssl.settings import config as configs
from fgssl.settings.measure import Column

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    __pydantic_config__ = ConfigDict(extra="forbid")
    seed: int
    run: str
    """Name of its run folder."""
    config: dict[str, Any]
    """All its settings, resolved."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage(PlannedRun):
    """A run that others start from."""

    stage: str


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A row of the table: one point of the grid, a run for each seed."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    cell: str
    arm: str
    grid: dict[str, Any]
    """Dotted keys that this cell varies; a cell of another arm need not have them."""
    columns: list[Column] = field(default_factory=list)
    """The measures of its runs; none else is missing in it."""
    runs: list[PlannedRun]


@dataclass(frozen=True, kw_only=True)
class Plan:
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
    reference: dict[str, dict[str, float]] = field(default_factory=dict)
    """Published value of a measure, by cell; empty where the dataset is not the published one."""
    cells: list[PlannedCell]
    stages: list[PlannedStage] = field(default_factory=list)

    @property
    def columns(self) -> dict[str, Column]:
        """The measures of all cells by name, in the order of the table."""
        return {column.name: column for cell in self.cells for column in cell.columns}


def read_plan(out: Path) -> Plan:
    """The plan of the sweep whose output folder is `out`. Raises `UserError` where there is none or it does not fit."""
    file = out / "plan.json"
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{file}: no such file; `aggregate` takes the output folder of a sweep, which holds the plan that "
            "`fgssl sweep SWEEP.yaml --out DIR` wrote"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{file}: cannot be read: {error}; delete it and run the sweep again, it writes the plan anew"
        ) from None
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise UserError(
            f"{file}: schema {found!r} is not the {SCHEMA} that this version reads; delete it and run the sweep again"
        )
    try:
        plan = TypeAdapter(Plan).validate_python(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}" for fault in error.errors())
        raise UserError(f"{file}: {faults}; delete it and run the sweep again, it writes the plan anew") from None
    names = [cell.cell for cell in plan.cells]
    if plan.baseline is not None and plan.baseline not in names:
        raise UserError(f"{file}: baseline: there is no cell {plan.baseline!r}; the cells are {', '.join(names)}")
    return plan if plan.columns else replace(plan, cells=[_with_columns(cell, file) for cell in plan.cells])


def _with_columns(cell: PlannedCell, file: Path) -> PlannedCell:
    """Fill in the columns of a plan from before they were recorded, by the settings of its runs."""
    evaluation = configs.parse(cell.runs[0].config, f"{file}, cell {cell.cell}").evaluation
    return cell if evaluation is None else replace(cell, columns=evaluation.columns)
