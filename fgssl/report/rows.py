"""Plan and run folders -> rows.csv: one row a run, whatever became of it."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from fgssl.progress import Track, silent
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.store.files import write_atomically
from fgssl.store.plan import PlannedCell, PlannedRun, PlanRecord
from fgssl.store.records import Evaluation, Trained
from fgssl.store.run_folder import RunFolder, RunState

Row: TypeAlias = dict[str, Any]

Start: TypeAlias = tuple[str, PlannedRun]
"""A run that others start from, after its name for people."""

ORIGIN = {
    "code_version": "code versions",
    "data_version": "data versions",
    "device": "devices",
    "processes": "numbers of processes",
    "engine": "engines",
    "threads": "numbers of threads",
    "versions": "library versions",
}
"""Columns that say what made a result, each with its plural. Where the environments of a training, or its evaluation,
differ in one, it holds all of them, joined by `AND`."""

AND = " + "


def collect_rows(plan: PlanRecord, out: Path, track: Track = silent) -> list[Row]:
    """One row a planned run, in the plan's order; what a run has not yielded is None. Run folders lie in `out`/runs.

    `plan.columns` holds the units of the measures. `wall_s` is the time of the training and the evaluation
    together, seconds; `fingerprint` that of the training; `reason` why a run is not done.
    """
    planned = [(cell, run) for cell in plan.cells for run in cell.runs]
    starts: dict[str, Start] = {run.run: (f"cell {cell.cell}", run) for cell, run in planned}
    starts |= {stage.run: (f"stage {stage.stage}", stage) for stage in plan.stages}
    rows = []
    with track("collect results", len(planned), "runs") as advance:
        for cell, run in planned:
            rows.append(_row(plan, cell, run, starts, out))
            advance(1)
    return rows


def _row(plan: PlanRecord, cell: PlannedCell, run: PlannedRun, starts: Mapping[str, Start], out: Path) -> Row:
    folder, config = RunFolder.in_output(out, run.run), run.config
    state = folder.state(config)
    training, evaluation = folder.trained(), folder.evaluation(config)
    measured = evaluation.measures if evaluation is not None else {}
    done = state == "DONE"
    return {
        "sweep": plan.sweep,
        "preset": plan.preset,
        "point": cell.cell,
        "seed": run.seed,
        **{key: cell.grid.get(key) for key in plan.grid_keys},
        "state": state,
        **{name: measured.get(name) if done else None for name in plan.columns},
        "wall_s": sum(part.wall_s for part in (training, evaluation) if part) if done else None,
        "fingerprint": fingerprints.training_fingerprint(config),
        **_origin(training, evaluation),
        "reason": None if done else _reason(folder, config, state, starts, out),
    }


def _origin(training: Trained | None, evaluation: Evaluation | None) -> dict[str, str | None]:
    sources = (*(training.environments if training else ()), training, evaluation)
    values = {column: [found for source in sources if (found := getattr(source, column, None))] for column in ORIGIN}
    values["code_version"] += evaluation.features_code_versions if evaluation else ()
    values["versions"] = [", ".join(map(" ".join, versions.items())) for versions in values["versions"]]
    return {column: AND.join(dict.fromkeys(map(str, found))) or None for column, found in values.items()}


def write_rows(rows: Sequence[Row], file: Path) -> None:
    """`rows` as CSV, atomically; numbers to the last digit, None as an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
        writer.writerows([_field(value) for value in row.values()] for row in rows)
    write_atomically(file, text.getvalue())


def _field(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else repr(value)  # repr of a float is the shortest that reads back equal


def _reason(folder: RunFolder, config: Config, state: RunState, starts: Mapping[str, Start], out: Path) -> str:
    if state == "FAILED":
        return _last_line(folder.failure() or "")
    if state == "RUNNING":
        return "still at work"
    for source in config.start.sources.values():
        if source.run is not None and source.run in starts:
            label, run = starts[source.run]
            folder_before = RunFolder.in_output(out, run.run)
            state_before = folder_before.state(run.config)
            if folder_before.trained() is None:
                why = _reason(folder_before, run.config, state_before, starts, out)
                return f"waits for {label} of seed {run.seed}, {state_before}: {why}"
    return "not run yet"


def _last_line(traceback: str) -> str:
    return next((line.strip() for line in reversed(traceback.splitlines()) if line.strip()), "no traceback was kept")
