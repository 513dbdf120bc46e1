"""Seeds that a sweep would need to show half a point, from its finished pairs or by an example."""

import math
from typing import Any

import numpy as np

from fgssl.report.rows import collect_rows
from fgssl.report.seeds import seeds_line
from fgssl.report.statistics import seeds_needed
from fgssl.store.plan import read_plan
from tests.report.test_tables import OUTLIERS, Finished


def line_of(out: Any, **changes: Any) -> str | None:
    out.content |= {"primary": "linear_100", **changes}
    out.write_plan()
    plan = read_plan(out.path)
    return seeds_line(plan, collect_rows(plan, out.path))


def test_from_the_pairs_of_all_cells(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0], "sigma=0.1": [51.0, 55.0, 56.0], "sigma=0.5": [50.5, 53.0, None]})
    # By seed: 1, 3, -1 with variance 4; 0.5, 1 with variance 0.125.
    std = math.sqrt((2 * 4 + 1 * 0.125) / 3)
    np.testing.assert_allclose(std, math.sqrt((2 * np.var([1, 3, -1], ddof=1) + np.var([0.5, 1], ddof=1)) / 3))
    line = line_of(out)
    assert line is not None
    assert line.startswith(f"{seeds_needed(0.5, std, 2)} seeds would show a difference of 0.5 points of linear_100 ")
    assert line.endswith("a standard deviation of 1.65 points (that of the 5 finished pairs)")


def test_one_pair_shows_no_spread(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, None], "sigma=0.1": [51.0, None, 60.0]})
    line = line_of(out)
    assert line is not None
    assert line.startswith(f"{seeds_needed(0.5, 1.0, 2)} seeds ")
    assert line.endswith("of 1.00 points (an example, until two seeds of a cell and the baseline are done)")


def test_nothing_to_say_without_a_primary_metric_in_percent_or_a_comparison(out: Any) -> None:
    assert line_of(out, primary=None) is None
    assert line_of(out, baseline=None) is None
    out.measure(["base", "sigma=0.1", "sigma=0.5"], OUTLIERS, ["linear_100", "outliers_genus"])
    assert line_of(out, primary="outliers_genus") is None
    assert line_of(out, cells=out.content["cells"][:1]) is None
