"""Cells x seeds -> the runs to make, what each needs, and the plan that `aggregate` reads."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fgssl.settings.config import Config, StartSource
from fgssl.settings.fingerprints import evaluation_fingerprint, run_name
from fgssl.settings.measure import Column
from fgssl.store.plan import SCHEMA, PlannedCell, PlannedRun, PlannedStage, PlanRecord
from hpc.sweeps.grid import Grid, needed_stages

CELL = "cell"
"""Kind of the stages that are a cell's runs."""


@dataclass(frozen=True)
class Stage:
    """One run to make: the unit of work."""

    run: str
    """Name of its run folder."""
    kind: str
    """Name of a shared stage in the sweep, or `CELL`."""
    label: str
    """For people: the shared stage or the cell, and the seed."""
    seed: int
    config: Config

    @property
    def needs(self) -> tuple[str, ...]:
        """Runs that must be trained before, of this plan or not."""
        sources = self.config.start.sources.values()
        return tuple(dict.fromkeys(source.run for source in sources if source.run is not None))

    @property
    def key(self) -> str:
        """Unique in a plan: one run may be measured in two ways."""
        return f"{self.run}/{evaluation_fingerprint(self.config)}"


@dataclass(frozen=True)
class SweepPlan:
    """All runs of a sweep; those that others need come first."""

    grid: Grid
    stages: Sequence[Stage]
    runs: Mapping[tuple[str, int], Stage]
    """(cell, seed) -> its run."""

    def record(self) -> PlanRecord:
        """Return what `plan.json` holds."""
        grid, configs = self.grid, [cell.config for cell in self.grid.cells]
        return PlanRecord(
            schema=SCHEMA,
            sweep=grid.name,
            preset=grid.preset or "",
            title=grid.title,
            dataset=configs[0].data.dataset,
            baseline=grid.baseline,
            grid_keys=list(dict.fromkeys(key for cell in grid.cells for key in cell.grid)),
            metrics=list(dict.fromkeys(column.name for config in configs for column in _columns(config))),
            reference={cell.name: dict(cell.published) for cell in grid.cells if cell.published},
            cells=[
                PlannedCell(
                    cell=cell.name,
                    arm=cell.arm,
                    grid=json.loads(json.dumps(cell.grid)),  # plain, without the places of the keys
                    columns=_columns(cell.config),
                    runs=[
                        PlannedRun(seed=run.seed, run=run.run, config=run.config)
                        for run in (self.runs[cell.name, seed] for seed in grid.seeds)
                    ],
                )
                for cell in grid.cells
            ],
            stages=[
                PlannedStage(stage=stage.kind, seed=stage.seed, run=stage.run, config=stage.config)
                for stage in self.stages
                if stage.kind != CELL
            ],
        )


def plan(grid: Grid) -> SweepPlan:
    """Every run once: what several cells start from, and cells that differ in their evaluation, share theirs."""
    stages: dict[str, Stage] = {}

    def shared(name: str, seed: int) -> Stage:
        config = resolved(grid.stages[name], seed)
        stage = Stage(run_name(config), name, f"{name}, seed {seed}", seed, config)
        return stages.setdefault(stage.key, stage)

    def resolved(config: Config, seed: int) -> Config:
        starts = {role: StartSource(run=shared(name, seed).run) for role, name in needed_stages(config).items()}
        return dataclasses.replace(config, seed=seed, start=dataclasses.replace(config.start, **starts))

    measured, runs = {}, {}
    for seed in grid.seeds:
        for cell in grid.cells:
            config = resolved(cell.config, seed)
            stage = Stage(run_name(config), CELL, f"{cell.name}, seed {seed}", seed, config)
            measured[stage.key] = runs[cell.name, seed] = stage
    of_cells = {stage.run for stage in measured.values()}
    first = [stage for stage in stages.values() if stage.run not in of_cells]
    return SweepPlan(grid, _in_order([*first, *measured.values()]), runs)


def _in_order(stages: Sequence[Stage]) -> list[Stage]:
    """Return the given order, but what a run needs before it."""
    by_run: dict[str, list[Stage]] = {}
    for stage in stages:
        by_run.setdefault(stage.run, []).append(stage)
    ordered: dict[str, Stage] = {}

    def place(stage: Stage) -> None:
        for need in stage.needs:
            for needed in by_run.get(need, ()):
                place(needed)
        ordered.setdefault(stage.key, stage)

    for stage in stages:
        place(stage)
    return list(ordered.values())


def _columns(config: Config) -> list[Column]:
    return [] if config.evaluation is None else config.evaluation.columns
