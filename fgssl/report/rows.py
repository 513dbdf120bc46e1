"""Rows of a sweep's runs (rows.csv), one per planned run of a cell, whatever its state; stages have none."""

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
"""Row of rows.csv, by column."""

Start: TypeAlias = tuple[str, PlannedRun]
"""Run from which others start, after its name in messages."""

ORIGIN = {
    "code_version": "code versions",
    "data_version": "data versions",
    "device": "devices",
    "processes": "numbers of processes",
    "engine": "engines",
    "threads": "numbers of threads",
    "versions": "library versions",
}
"""Columns with the origin of a result, each with its plural for messages. If the launches of a training or its
evaluation differ in one, it holds all their values, joined by `AND`."""

AND = " + "


def collect_rows(plan: PlanRecord, out: Path, track: Track = silent) -> list[Row]:
    """Return one row per planned run of a cell, in the plan's order, from the run folders in `out`/runs.

    Missing values are None. `wall_s` is the time of training and evaluation together, in seconds. `fingerprint` is the
    training's. `reason` explains why a run is not done, and `remarks` holds the remarks on its measures, one per line.
    `plan.columns` holds the units of the measures.
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
    training, evaluation = folder.trained(), folder.evaluation(config)
    measured = evaluation.measures if evaluation is not None else {}
    done = training is not None and (config.evaluation is None or evaluation is not None)
    state: RunState = "DONE" if done else folder.state_if_not_done()
    return {
        "sweep": plan.sweep,
        "preset": plan.preset,
        "cell": cell.cell,
        "seed": run.seed,
        **{key: cell.grid.get(key) for key in plan.grid_keys},
        "state": state,
        **{name: measured.get(name) if done else None for name in plan.columns},
        "wall_s": sum(part.wall_s for part in (training, evaluation) if part) if done else None,
        "fingerprint": fingerprints.training_fingerprint(config),
        **_origin(training, evaluation),
        "reason": None if done else _reason(folder, config, state, starts, out),
        "remarks": "\n".join(config.evaluation.remarks(measured)) or None if done and config.evaluation else None,
    }


def _origin(training: Trained | None, evaluation: Evaluation | None) -> dict[str, str | None]:
    sources = (*(training.environments if training else ()), training, evaluation)
    values = {column: [found for source in sources if (found := getattr(source, column, None))] for column in ORIGIN}
    values["code_version"] += evaluation.features_code_versions if evaluation else ()
    values["versions"] = [", ".join(map(" ".join, versions.items())) for versions in values["versions"]]
    return {column: AND.join(dict.fromkeys(map(str, found))) or None for column, found in values.items()}


def write_rows(rows: Sequence[Row], file: Path) -> None:
    """Write rows as CSV, atomically, with all digits of a number and an empty field for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
        writer.writerows([_field(value) for value in row.values()] for row in rows)
    write_atomically(file, text.getvalue())


def _field(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else repr(value)  # the shortest text that reads back as the same float


def _reason(folder: RunFolder, config: Config, state: RunState, starts: Mapping[str, Start], out: Path) -> str:
    if state == "FAILED":
        return _last_line(folder.failure() or "")
    if state == "RUNNING":
        return "still running"
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
