"""Ablation curves: positions on the axis, and what is drawn of runs that are done."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from fgssl.report.figures import draw
from fgssl.report.figures.ablation import positions
from fgssl.report.figures.records import NotDrawnError
from tests.report.conftest import Out


def test_values_that_lie_close_are_on_a_linear_axis() -> None:
    assert positions([0.0, 0.25, 1]).at == {"0": 0.0, "0.25": 0.25, "1": 1.0}


def test_values_that_are_spread_are_on_a_logarithmic_axis_with_zero_and_infinity_a_step_beyond() -> None:
    found = positions([0.0, 0.01, 0.1, 1.0, math.inf])
    assert found.connected
    assert found.at == pytest.approx({"0": -3, "0.01": -2, "0.1": -1, "1": 0, "∞": 1})


def test_values_that_are_no_numbers_stand_in_their_order_and_are_not_connected() -> None:
    found = positions(["both", [1.0, 0.1], True])
    assert found.at == {"both": 0.0, "[1.0, 0.1]": 1.0, "true": 2.0}
    assert not found.connected


@pytest.mark.parametrize("values", [[-1.0, 100.0], [5, math.inf], [0.0, math.inf], [math.inf], [0.0, 0.0]])
def test_no_values_are_too_strange(values: list[float]) -> None:
    assert all(map(math.isfinite, positions(values).at.values()))


def lines(figure: Any) -> list[list[float]]:
    return [list(map(float, line.get_ydata())) for line in figure.axes[0].lines]


def test_means_of_cells_that_are_done_are_drawn(finished: Callable[..., Out], tidy: Callable[[Any], None]) -> None:
    out = finished({"base": [50.0, 54.0], "sigma=0.1": [60.0, 62.0, 64.0], "sigma=0.5": [70.0]})
    figure = draw("ablation", out.path)
    assert [62.0, 70.0] in lines(figure)
    assert [52.0, 52.0] in lines(figure)  # the baseline
    assert figure.axes[0].get_xlabel() == "sigma_grad_cam"
    tidy(figure)


def test_cells_without_runs_are_named(finished: Callable[..., Out], tidy: Callable[[Any], None]) -> None:
    figure = draw("ablation", finished({"sigma=0.1": [60.0]}).path)
    assert [60.0] in lines(figure)
    assert "One seed. Not done: sigma=0.5." in [text.get_text() for text in figure.texts]
    tidy(figure)


def test_published_values_are_drawn_beside(out: Out) -> None:
    out.content["reference"] = {
        "sigma=0.1": {"linear_100": 66.0},
        "sigma=0.5": {"linear_100": 67.0},
        "base": {"linear_100": 64.0},
    }
    out.write_plan()
    out.finish("base", 0, 50.0)
    out.finish("sigma=0.1", 0, 60.0)
    figure = draw("ablation", out.path)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "grad_cam", "published", "base (baseline)", "baseline, published",
    ]  # fmt: skip
    assert [66.0, 67.0] in lines(figure)  # a value of an unfinished run, too


def test_a_sweep_without_a_grid_or_without_runs_says_so(out: Out) -> None:
    with pytest.raises(NotDrawnError, match="no run of the varied cells is done with linear_100"):
        draw("ablation", out.path)
    out.content["cells"] = out.content["cells"][:2]
    out.write_plan()
    with pytest.raises(NotDrawnError, match="no arm of the sweep varies a setting"):
        draw("ablation", out.path)


def test_long_values_and_many_of_them_do_not_overlap(out: Out, tidy: Callable[[Any], None]) -> None:
    cells = out.content["cells"]
    key = out.content["grid_keys"][0]
    for place, cell in enumerate(cells):
        cell["arm"] = "an_arm_with_quite_a_long_name"
        cell["grid"] = {key: f"a_value_with_a_name_that_is_far_too_long_{place}"}
    out.write_plan()
    for cell in cells:
        out.finish(cell["cell"], 0, 50.0)
    tidy(draw("ablation", out.path))
