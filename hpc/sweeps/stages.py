"""Grid points x seeds -> the runs to make, what each needs, and the plan that `aggregate` reads."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fgssl.settings.config import Config, StartSource
from fgssl.settings.fingerprints import evaluation_fingerprint, run_name, to_mapping
from fgssl.settings.measure import Column
from fgssl.store.plan import SCHEMA, PlannedCell, PlannedRun, PlannedStage, PlanRecord
from hpc.sweeps.grid import Grid, needed_stages

POINT = "point"
"""Kind of the stages that are a cell's runs."""


@dataclass(frozen=True)
class Stage:
    """One run to make: the unit of work."""

    run: str
    """Name of its run folder."""
    kind: str
    """Name of a shared stage in the sweep, or `POINT`."""
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

    @property
    def planned(self) -> dict[str, Any]:
        """The fields of its `PlannedRun`."""
        return {"seed": self.seed, "run": self.run, "config": to_mapping(self.config)}


@dataclass(frozen=True)
class SweepPlan:
    """All runs of a sweep; those that others need come first."""

    grid: Grid
    stages: Sequence[Stage]
    runs: Mapping[tuple[str, int], Stage]
    """(cell, seed) -> its run."""

    def record(self) -> PlanRecord:
        """Return what `plan.json` holds."""
        grid, configs = self.grid, [point.config for point in self.grid.points]
        return PlanRecord(
            schema=SCHEMA,
            sweep=grid.name,
            preset=grid.preset or "",
            title=grid.title,
            dataset=configs[0].data.dataset,
            baseline=grid.baseline,
            grid_keys=list(dict.fromkeys(key for point in grid.points for key in point.grid)),
            metrics=list(dict.fromkeys(column.name for config in configs for column in _columns(config))),
            reference={point.cell: dict(point.published) for point in grid.points if point.published},
            cells=[
                PlannedCell(
                    cell=point.cell,
                    arm=point.arm,
                    grid=json.loads(json.dumps(point.grid)),  # plain, without the places of the keys
                    columns=_columns(point.config),
                    runs=[PlannedRun(**self.runs[point.cell, seed].planned) for seed in grid.seeds],
                )
                for point in grid.points
            ],
            stages=[PlannedStage(stage=stage.kind, **stage.planned) for stage in self.stages if stage.kind != POINT],
        )


def plan(grid: Grid) -> SweepPlan:
    """Every run once: what several points start from, and points that differ in their evaluation, share theirs."""
    stages: dict[str, Stage] = {}

    def shared(name: str, seed: int) -> Stage:
        config = resolved(grid.stages[name], seed)
        stage = Stage(run_name(config), name, f"{name}, seed {seed}", seed, config)
        return stages.setdefault(stage.key, stage)

    def resolved(config: Config, seed: int) -> Config:
        starts = {role: StartSource(run=shared(name, seed).run) for role, name in needed_stages(config).items()}
        return dataclasses.replace(config, seed=seed, start=dataclasses.replace(config.start, **starts))

    points, runs = {}, {}
    for seed in grid.seeds:
        for point in grid.points:
            config = resolved(point.config, seed)
            stage = Stage(run_name(config), POINT, f"{point.cell}, seed {seed}", seed, config)
            points[stage.key] = runs[point.cell, seed] = stage
    measured = {stage.run for stage in points.values()}
    first = [stage for stage in stages.values() if stage.run not in measured]
    return SweepPlan(grid, _in_order([*first, *points.values()]), runs)


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
