"""Provenance of a cell of the table: its runs and their jobs, its own settings, and its versions of code and data."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgssl.report.page.content import Provenance, Run, RunOrigin
from fgssl.report.rows import Row
from fgssl.settings.config import Config
from fgssl.settings.fingerprints import not_scientific, to_mapping
from fgssl.settings.layers import overlaps
from fgssl.store.plan import PlannedCell, PlannedRun, PlanRecord
from fgssl.store.run_folder import RunFolder

ABSENT = "–"
"""Text of a value that does not exist, or of an empty setting."""


@dataclass(frozen=True)
class RunJobs:
    """Jobs that made a run, or tried to."""

    ids: tuple[str, ...]
    """Their ids, first attempt first."""
    log: str
    """Path of the newest log from the output folder, or empty if there is none."""


def run_states(plan: PlanRecord, rows: Sequence[Row], out: Path) -> list[Run]:
    """Return the state of each run of a cell, in the order of the rows."""
    return [_run(run, row, out) for run, row in zip(_runs(plan), rows, strict=True)]


def provenances(plan: PlanRecord, rows: Sequence[Row], out: Path, jobs: Mapping[str, RunJobs]) -> dict[str, Provenance]:
    """Return the provenance of each cell, by its name. `jobs` holds the jobs of runs, by the name of the run folder."""
    of_cells: dict[str, list[tuple[PlannedRun, Row]]] = {cell.cell: [] for cell in plan.cells}
    for run, row in zip(_runs(plan), rows, strict=True):
        of_cells[row["cell"]].append((run, row))
    return {cell.cell: _provenance(plan, cell, of_cells[cell.cell], out, jobs) for cell in plan.cells}


def describe(origin: Provenance, baseline: str | None) -> str:
    """Return a provenance as lines of text; `baseline` is the name of the baseline's cell, or None."""
    lines = [origin.title]
    for one in origin.runs:
        hours = "" if one.hours is None else f", {one.hours:.2f} hours"
        lines.append(f"  seed {one.run.seed}: {one.run.state}{hours}, runs/{one.run.name}")
        jobs = f"jobs {', '.join(one.jobs)}" if one.jobs else ""
        log = f"log {one.log}" if one.log else ""
        lines += [f"    {line}" for line in (one.run.detail, jobs, log) if line]
    if origin.differences:
        lines.append(f"settings that differ from {baseline}:")
        width = max(len(name) for name, _, _ in origin.differences)
        lines += [f"  {name:{width}}  {there} -> {here}" for name, there, here in origin.differences]
    return "\n".join([*lines, f"code {origin.code}", f"data {origin.data}"])


def _runs(plan: PlanRecord) -> Iterator[PlannedRun]:
    for cell in plan.cells:
        yield from cell.runs


def _run(run: PlannedRun, row: Row, out: Path) -> Run:
    detail = row["reason"] or ""
    progress = RunFolder.in_output(out, run.run).progress() if row["state"] == "RUNNING" else None
    if progress is not None:
        detail = f"step {progress.step} of {progress.total_steps}"
    return Run(run.run, row["cell"], run.seed, row["state"].lower(), detail)


def _provenance(
    plan: PlanRecord,
    cell: PlannedCell,
    runs: Sequence[tuple[PlannedRun, Row]],
    out: Path,
    jobs: Mapping[str, RunJobs],
) -> Provenance:
    origins = []
    for run, row in runs:
        of_run = jobs.get(run.run, RunJobs((), ""))
        hours = None if row["wall_s"] is None else row["wall_s"] / 3600
        origins.append(RunOrigin(_run(run, row, out), of_run.ids, hours, of_run.log))
    done = sum(row["state"] == "DONE" for _, row in runs)
    return Provenance(
        title=f"{cell.cell}: {done} of {len(runs)} runs are done",
        runs=tuple(origins),
        differences=tuple(_differences(plan, cell)),
        code=_versions([row for _, row in runs], "code_version"),
        data=_versions([row for _, row in runs], "data_version"),
    )


def _differences(plan: PlanRecord, cell: PlannedCell) -> Iterator[tuple[str, str, str]]:
    """Yield the settings that can change a result and differ from the baseline's: key, value there and value here."""
    baseline = next((one for one in plan.cells if one.cell == plan.baseline), cell)
    # Configs of the same seed, since the runs from which they start differ between seeds.
    there, here = (_settings(one.runs[0].config, plan) for one in (baseline, cell))
    for key in {**there, **here}:
        if there.get(key, ABSENT) != here.get(key, ABSENT):
            yield key, there.get(key, ABSENT), here.get(key, ABSENT)


def _settings(config: Config, plan: PlanRecord) -> dict[str, str]:
    """Return the settings that can change a result, by dotted key, as texts; runs are named by their stage or cell.

    Empty settings are left out, and so read like those of a section that is not there.
    """
    names = {run.run: cell.cell for cell in plan.cells for run in cell.runs}
    names |= {stage.run: stage.stage for stage in plan.stages}
    free = list(not_scientific(config))
    texts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in to_mapping(config).leaves().items()
        if value is not None and not overlaps(key, free)
    }
    return {key: names.get(text, text) for key, text in texts.items()}


def _versions(rows: Sequence[Row], column: str) -> str:
    """Return the versions in a column, with their seeds if they differ."""
    seeds_of: dict[str, list[str]] = {}
    for row in rows:
        if row[column] is not None:
            seeds_of.setdefault(row[column], []).append(str(row["seed"]))
    if len(seeds_of) <= 1:
        return next(iter(seeds_of), ABSENT)
    return "; ".join(f"{version} (seeds {', '.join(seeds)})" for version, seeds in seeds_of.items())
