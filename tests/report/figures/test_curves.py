"""Figures of numbers: label fractions, nuisances and training curves."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fgssl.report.figures import draw
from fgssl.report.figures.records import NotDrawnError
from tests.report.conftest import Out


def drawn(axes: Any) -> list[list[float]]:
    return [list(map(float, line.get_ydata())) for line in axes.lines]


def test_label_fractions_are_drawn_from_few_to_many(out: Out, tidy: Callable[[Any], None]) -> None:
    out.measured = {"linear_50": 30.0, "linear_20": 10.0}
    out.finish("base", 0, 40.0)
    out.finish("base", 1, 50.0)
    out.finish("sigma=0.5", 0, 60.0)
    figure = draw("label_fractions", out.path)
    assert [10.0, 30.0, 45.0] in drawn(figure.axes[0])
    assert [10.0, 30.0, 60.0] in drawn(figure.axes[0])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["20", "50", "100"]
    tidy(figure)


def test_label_fractions_need_two_shares_and_a_run(out: Out) -> None:
    with pytest.raises(NotDrawnError, match="no run is done with the linear probe"):
        draw("label_fractions", out.path)
    out.content["metrics"] = ["linear_100", "rank1"]
    out.write_plan()
    with pytest.raises(NotDrawnError, match="one share of the labels at most"):
        draw("label_fractions", out.path)


def test_forty_cells_with_long_names_do_not_overlap(out: Out, tidy: Callable[[Any], None]) -> None:
    runs = out.content["cells"][0]["runs"]
    names = [f"{'a_very_long_name_of_an_arm ' * (1 + number % 6)}{number} $x$" for number in range(40)]
    out.content["baseline"] = names[0]
    out.content["cells"] = [
        {"cell": name, "arm": name, "grid": {"method.noise.sigma_grad_cam": number}, "runs": runs}
        for number, name in enumerate(names)
    ]
    out.write_plan()
    for seed in (0, 1):
        out.finish(names[0], seed, 40.0 + seed)
        log(out, names[0], seed, [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    for name in ("label_fractions", "training"):
        tidy(draw(name, out.path))


def nuisances(out: Out) -> None:
    out.measure(
        [cell["cell"] for cell in out.content["cells"]],
        {"nuisances": {"light": ["brightness"], "pose": ["scale"]}},
        ["linear_100", "nuisance_light", "nuisance_pose"],
    )


def test_nuisances_are_drawn_against_accuracy(out: Out, tidy: Callable[[Any], None]) -> None:
    nuisances(out)
    for seed, light in enumerate((20.0, 30.0)):
        out.measured = {"nuisance_light": light, "nuisance_pose": 5.0}
        out.finish("base", seed, 40.0 + 10 * seed)
    figure = draw("nuisances", out.path)
    light, pose = figure.axes
    (mean,) = (line for line in light.lines if len(line.get_xdata()) == 1)
    assert (float(mean.get_xdata()[0]), float(mean.get_ydata()[0])) == (25.0, 45.0)
    assert light.get_xlabel() == "nuisance_light (%) ↓"
    assert pose.get_xlabel() == "nuisance_pose (%) ↓"
    assert light.get_ylabel() == "linear_100 (%)"
    tidy(figure)


def test_nuisances_need_runs_that_measure_them(out: Out) -> None:
    with pytest.raises(NotDrawnError, match="no run measures nuisances"):
        draw("nuisances", out.path)
    nuisances(out)
    with pytest.raises(NotDrawnError, match="no run that measures nuisances is done"):
        draw("nuisances", out.path)


def log(out: Out, cell: str, seed: int, lines: list[dict[str, float]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (out.folder(cell, seed) / "metrics.jsonl").write_text(text)


def test_training_curves_are_means_of_what_seeds_have_logged(out: Out, tidy: Callable[[Any], None]) -> None:
    out.finish("base", 0, 50.0)
    out.finish("base", 1, 50.0)
    log(out, "base", 0, [{"step": 1, "loss": 4.0, "extra": 1.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 1.0}])
    log(out, "base", 1, [{"step": 1, "loss": 6.0}, {"step": 2, "loss": float("nan")}])
    figure = draw("training", out.path)
    loss, extra = figure.axes
    assert loss.get_title(loc="left") == "loss"
    assert drawn(loss) == [[5.0, 2.0, 1.0]]
    assert drawn(extra) == [[1.0]]
    tidy(figure)


def test_training_curves_need_a_number(out: Out) -> None:
    out.finish("base", 0, 50.0)
    log(out, "base", 0, [{"step": 1, "loss": float("nan")}])
    with pytest.raises(NotDrawnError, match="no complete training has logged anything"):
        draw("training", out.path)


def test_a_wide_range_is_logarithmic(out: Out, tidy: Callable[[Any], None]) -> None:
    out.finish("base", 0, 50.0)
    log(out, "base", 0, [{"step": step, "loss": value} for step, value in enumerate(np.geomspace(1e-5, 10, 5))])
    figure = draw("training", out.path)
    assert figure.axes[0].get_yscale() == "log"
    tidy(figure)
