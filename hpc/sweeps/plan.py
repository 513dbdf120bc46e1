"""Runs of a sweep, one for each cell and seed, what each needs, and the record that `fgssl aggregate` reads."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fgssl.settings.config import Config, StartSource
from fgssl.settings.fingerprints import evaluation_fingerprint, run_name
from fgssl.settings.measure import Column
from fgssl.store.plan import SCHEMA, PlannedCell, PlannedRun, PlannedStage, PlanRecord
from hpc.sweeps.grid import Grid, needed_stages


@dataclass(frozen=True)
class SweepRun:
    """Run of a sweep, the unit of work."""

    run: str
    """Name of its run folder."""
    stage: str | None
    """Name of its stage, or None for the run of a cell."""
    label: str
    """Name in messages: the stage or the cell, and the seed."""
    seed: int
    config: Config

    @functools.cached_property
    def needs(self) -> tuple[str, ...]:
        """Names of runs that must be trained before, in this plan or outside."""
        sources = self.config.start.sources.values()
        return tuple(dict.fromkeys(source.run for source in sources if source.run is not None))

    @functools.cached_property
    def key(self) -> str:
        """Unique name in a plan, in which one run may be measured in two ways."""
        return f"{self.run}/{evaluation_fingerprint(self.config)}"


@dataclass(frozen=True)
class SweepPlan:
    """Runs of a sweep, in an order in which each comes after the runs that it needs."""

    grid: Grid
    runs: Sequence[SweepRun]
    of_cell: Mapping[tuple[str, int], SweepRun]
    """Run of each cell at each seed, by (name of the cell, seed)."""

    def record(self) -> PlanRecord:
        """Return the content of plan.json."""
        grid, configs = self.grid, [cell.config for cell in self.grid.cells]
        return PlanRecord(
            schema=SCHEMA,
            sweep=grid.settings.name,
            preset=grid.preset or "",
            title=grid.settings.title,
            dataset=configs[0].data.dataset,
            baseline=grid.settings.baseline,
            primary=grid.settings.primary,
            equivalent_within=grid.settings.equivalent_within,
            grid_keys=list(dict.fromkeys(key for cell in grid.cells for key in cell.grid)),
            metrics=list(
                dict.fromkeys(column.name for config in configs for column in _columns(config) if column.shown)
            ),
            reference={cell.name: dict(cell.published) for cell in grid.cells if cell.published},
            cells=[
                PlannedCell(
                    cell=cell.name,
                    arm=cell.arm,
                    grid=json.loads(json.dumps(cell.grid)),  # plain values, without the places of the keys
                    columns=_columns(cell.config),
                    runs=[
                        PlannedRun(seed=run.seed, run=run.run, config=run.config)
                        for run in (self.of_cell[cell.name, seed] for seed in grid.settings.seeds)
                    ],
                    sanity=cell.sanity,
                )
                for cell in grid.cells
            ],
            stages=[
                PlannedStage(stage=run.stage, seed=run.seed, run=run.run, config=run.config)
                for run in self.runs
                if run.stage is not None
            ],
        )


def plan(grid: Grid) -> SweepPlan:
    """Return the runs of a sweep, each once.

    Cells share the runs from which they start. Cells that differ in their evaluation only share a run folder.
    """
    of_stages: dict[str, SweepRun] = {}

    def started(config: Config, seed: int) -> Config:
        """Return the config at a seed, in which starts name runs instead of stages."""
        starts = {role: StartSource(run=shared(name, seed).run) for role, name in needed_stages(config).items()}
        return dataclasses.replace(config, seed=seed, start=dataclasses.replace(config.start, **starts))

    def shared(stage: str, seed: int) -> SweepRun:
        config = started(grid.stages[stage], seed)
        run = SweepRun(run_name(config), stage, f"{stage}, seed {seed}", seed, config)
        return of_stages.setdefault(run.key, run)

    of_cell = {}
    for seed in grid.settings.seeds:
        for cell in grid.cells:
            config = started(cell.config, seed)
            of_cell[cell.name, seed] = SweepRun(run_name(config), None, f"{cell.name}, seed {seed}", seed, config)
    in_cells = {run.run for run in of_cell.values()}
    first = [run for run in of_stages.values() if run.run not in in_cells]
    return SweepPlan(grid, _in_order([*first, *of_cell.values()]), of_cell)


def recorded_runs(record: PlanRecord) -> list[SweepRun]:
    """Return the runs of a plan that was written, each once, needs first."""
    stages = [_recorded(stage, stage.stage, stage.stage) for stage in record.stages]
    return _in_order([*stages, *(_recorded(run, cell.cell) for cell in record.cells for run in cell.runs)])


def _recorded(run: PlannedRun, name: str, stage: str | None = None) -> SweepRun:
    return SweepRun(run.run, stage, f"{name}, seed {run.seed}", run.seed, run.config)


def _in_order(runs: Sequence[SweepRun]) -> list[SweepRun]:
    """Return the runs in their order, but each after the runs that it needs."""
    by_name: dict[str, list[SweepRun]] = {}
    for run in runs:
        by_name.setdefault(run.run, []).append(run)
    ordered: dict[str, SweepRun] = {}

    def place(run: SweepRun) -> None:
        for need in run.needs:
            for needed in by_name.get(need, ()):
                place(needed)
        ordered.setdefault(run.key, run)

    for run in runs:
        place(run)
    return list(ordered.values())


def _columns(config: Config) -> list[Column]:
    return [] if config.evaluation is None else config.evaluation.columns
