"""Figures of a sweep, one module each, with `needs` and `draw`.

`needs` names records of `RECORDS`, and `draw` takes them as arguments of these names. It returns a matplotlib figure or
plain data, and imports matplotlib inside.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgssl.errors import UserError
from fgssl.registries import Registry
from fgssl.settings.validation import unknown
from fgssl.store.features import KeptFeatures, read_features
from fgssl.store.plan import PlanRecord, read_plan
from fgssl.store.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

FIGURES = Registry(
    f"{__file__}: FIGURES",
    {},
)
"""Dotted path of the module of each figure. A figure is one file and one line here."""


def draw(name: str, out: Path) -> Any:
    """Draw a figure of the sweep in the folder `out`, from the runs that are done."""
    if name not in FIGURES:
        raise UserError(unknown(name, list(FIGURES), what="figure"))
    figure, plan = FIGURES.load(name), read_plan(out)
    return figure.draw(**{need: RECORDS[need](plan, out) for need in figure.needs})


def _table(plan: PlanRecord, out: Path) -> "pd.DataFrame":
    from fgssl.report.rows import collect_rows
    from fgssl.report.tables import tabulate

    return tabulate(collect_rows(plan, out), plan)


def _features(plan: PlanRecord, out: Path) -> dict[tuple[str, int], KeptFeatures]:
    kept = {place: read_features(folder.features) for place, folder in _folders(plan, out)}
    return {place: features for place, features in kept.items() if features is not None}


def _metrics(plan: PlanRecord, out: Path) -> dict[tuple[str, int], list[dict[str, float]]]:
    done = {place: folder.metrics for place, folder in _folders(plan, out) if folder.trained() is not None}
    return {place: _logged(file) for place, file in done.items() if file.is_file()}


def _logged(file: Path) -> list[dict[str, float]]:
    try:
        return list(map(json.loads, file.read_text(encoding="utf-8").splitlines()))
    except ValueError as error:
        advice = "restore the file, or delete its run folder and train the run again"
        raise UserError(f"{file}: cannot be read as logged metrics ({error}): {advice}") from None


def _folders(plan: PlanRecord, out: Path) -> Iterator[tuple[tuple[str, int], RunFolder]]:
    for cell in plan.cells:
        for run in cell.runs:
            yield (cell.cell, run.seed), RunFolder.in_output(out, run.run)


RECORDS: dict[str, Callable[[PlanRecord, Path], Any]] = {"table": _table, "features": _features, "metrics": _metrics}
"""Records that a figure can need: the table; the kept features by (cell, seed); the logged metrics of complete
trainings by (cell, seed)."""
