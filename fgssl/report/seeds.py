"""Number of seeds with which a sweep would show a small difference of its primary metric."""

import math
from collections.abc import Iterator, Sequence

from fgssl.report.rows import Row
from fgssl.store.plan import PlanRecord

DIFFERENCE = 0.5
"""Difference to be shown, in points (of percent)."""
EXAMPLE_STD = 1.0
"""Standard deviation of the differences that is assumed while there are no runs to take it from, in points."""


def seeds_line(plan: PlanRecord, rows: Sequence[Row]) -> str | None:
    """Return how many seeds would show `DIFFERENCE`, and the standard deviation from which that follows.

    It is that of the differences from the baseline, over all cells with at least two finished pairs. Return None if the
    sweep has no primary metric in percent, or nothing to compare.
    """
    primary = plan.primary
    if primary is None or plan.baseline is None or len(plan.of_arms) < 2 or plan.columns[primary].unit != "percent":
        return None
    from fgssl.report.statistics import seeds_needed  # imports scipy, which takes half a second

    differences = list(_differences(plan, primary, rows))
    freedom = sum(len(of_cell) - 1 for of_cell in differences)
    if freedom:
        squares = sum((value - sum(of_cell) / len(of_cell)) ** 2 for of_cell in differences for value in of_cell)
        std = math.sqrt(squares / freedom)
        source = f"that of the {sum(map(len, differences))} finished pairs"
    else:
        std, source = EXAMPLE_STD, "an example, until two seeds of a cell and the baseline are done"
    return (
        f"{seeds_needed(DIFFERENCE, std, plan.comparisons)} seeds would show a difference of {DIFFERENCE:g} points of "
        f"{primary} with a chance of 80 %, if differences have a standard deviation of {std:.2f} points ({source})"
    )


def _differences(plan: PlanRecord, metric: str, rows: Sequence[Row]) -> Iterator[list[float]]:
    """Yield the differences from the baseline, paired by seed, of each cell with at least two pairs."""
    of_cells: dict[str, dict[int, float]] = {cell.cell: {} for cell in plan.of_arms}
    for row in rows:
        done = row["state"] == "DONE" and row[metric] is not None and math.isfinite(row[metric])
        if done and row["cell"] in of_cells:
            of_cells[row["cell"]][row["seed"]] = row[metric]
    baseline = of_cells.pop(str(plan.baseline), {})
    for values in of_cells.values():
        found = [value - baseline[seed] for seed, value in values.items() if seed in baseline]
        if len(found) > 1:
            yield found
