"""Figures of a sweep, one module each: `needs` names the records that it reads, `draw` takes them by these names.

`draw` returns a matplotlib figure, or plain data for the page; matplotlib is imported inside it.
"""

import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgssl.errors import UserError
from fgssl.settings.validation import unknown
from fgssl.store.features import KeptFeatures, read_features
from fgssl.store.plan import Plan, read_plan
from fgssl.store.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

FIGURES: dict[str, str] = {}
"""Name -> its module. A figure is one file and one line here."""


def draw(name: str, out: Path) -> Any:
    """Draw a figure of the sweep in the folder `out`, as far as its runs are done."""
    if name not in FIGURES:
        raise UserError(unknown(name, list(FIGURES), what="figure"))
    figure, plan = pkgutil.resolve_name(FIGURES[name]), read_plan(out)
    return figure.draw(**{need: RECORDS[need](plan, out) for need in figure.needs})


def _table(plan: Plan, out: Path) -> "pd.DataFrame":
    from fgssl.report.rows import collect_rows
    from fgssl.report.tables import tabulate

    return tabulate(collect_rows(plan, out), plan)


def _features(plan: Plan, out: Path) -> dict[tuple[str, int], KeptFeatures]:
    kept = {place: read_features(folder.features) for place, folder in _folders(plan, out)}
    return {place: features for place, features in kept.items() if features is not None}


def _metrics(plan: Plan, out: Path) -> dict[tuple[str, int], list[dict[str, float]]]:
    logged = {place: folder.metrics for place, folder in _folders(plan, out) if folder.metrics.is_file()}
    return {place: [json.loads(line) for line in file.read_text().splitlines()] for place, file in logged.items()}


def _folders(plan: Plan, out: Path) -> Iterator[tuple[tuple[str, int], RunFolder]]:
    for cell in plan.cells:
        for run in cell.runs:
            yield (cell.cell, run.seed), RunFolder(out / "runs" / run.run)


RECORDS: dict[str, Callable[[Plan, Path], Any]] = {"table": _table, "features": _features, "metrics": _metrics}
"""Records that a figure may need: the table; by (cell, seed) the kept features, and the lines that training logged."""
