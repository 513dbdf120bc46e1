"""Figures of networks: attention, reconstructions and gates."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fgssl.report.figures import draw, style
from fgssl.report.figures.pictures import Pictures, draw_rows, few
from fgssl.report.figures.records import NotDrawnError, Records
from fgssl.report.networks import Chosen, gates, reconstructions
from tests.report.conftest import Out
from tests.report.figures.conftest import Embedded

CELLS = ("base", "sigma=0.1", "sigma=0.5")


def finish(embedded: Embedded, *cells: str) -> None:
    for cell in cells:
        embedded.finish(cell, 1)
        embedded.add_weights(cell, 1)


def labels(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize(
    ("name", "network"), [("attention", "encoder"), ("gate", "encoder"), ("reconstructions", "decoder")]
)
def test_weights_must_be_there(out: Out, embedded: Embedded, name: str, network: str) -> None:
    finish(embedded, "sigma=0.1")
    (out.folder("sigma=0.1", 1) / f"{network}.safetensors").unlink()
    with pytest.raises(
        NotDrawnError, match=rf"no run that is done holds the weights of its {network} \({network}\.safe"
    ):
        draw(name, out.path)


@pytest.mark.parametrize("name", ["gate", "reconstructions"])
def test_noise_must_be_there(out: Out, embedded: Embedded, name: str) -> None:
    out.planned("sigma=0.1", 1)["config"]["method"]["pair_weight"] = 0.0
    out.write_plan()
    finish(embedded, "base", "sigma=0.1")
    with pytest.raises(NotDrawnError, match="no run that is done adds noise to features"):
        draw(name, out.path)


def test_attention_compares_cells_on_the_same_images(out: Out, embedded: Embedded, tidy: Callable[[Any], None]) -> None:
    finish(embedded, "base", "sigma=0.1")
    embedded.finish("sigma=0.5", 2)
    embedded.add_weights("sigma=0.5", 2)
    figure = draw("attention", out.path)
    assert labels(figure) == ["image", *CELLS]
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert len(shown) == 4 * 6
    images = embedded.images["test"]
    for row, image in zip(np.linspace(0, len(images) - 1, 6).round(), shown[:6], strict=True):
        assert (image == Chosen(images, np.array([int(row)])).resized(32)[0]).all()
    first, other_seed = np.stack(shown[6:12]), np.stack(shown[18:])
    assert np.abs(first.astype(float) - other_seed).max() > 50
    tidy(figure)


def test_of_many_cells_the_first_and_the_baseline_are_shown(out: Out, embedded: Embedded) -> None:
    finish(embedded, *CELLS)
    cells = Records(out.path)["embeddings"]
    assert few(cells, 3, "base") == (cells, "")
    found, more = few(cells, 2, "sigma=0.5")
    assert [one.cell for one in found] == ["base", "sigma=0.5"]
    assert more == " 1 more cell is not shown."
    assert [one.cell for one in few(cells, 2, None)[0]] == ["base", "sigma=0.5"]
    assert [one.cell for one in few(cells, 1, None)[0]] == ["base"]
    assert few(cells, 1, None)[1] == " 2 more cells are not shown."


def test_reconstructions_show_noise_and_difference(out: Out, embedded: Embedded, tidy: Callable[[Any], None]) -> None:
    finish(embedded, *CELLS)
    figure = draw("reconstructions", out.path)
    first, *others = labels(figure)
    assert first == "image"
    assert [text.split("\n")[0] for text in others] == ["sigma=0.1"] * 3 + ["sigma=0.5"] * 3
    gain = int(others[2].rpartition("× ")[2])
    images_of = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    shown = [np.stack(images_of[first : first + 6]) for first in range(0, 42, 6)]
    (one,) = [one for one in Records(out.path)["embeddings"] if one.cell == "sigma=0.1"]
    images = embedded.images["test"]
    both = reconstructions(one, Chosen(images, np.linspace(0, len(images) - 1, 6).round().astype(int)))
    assert shown[1] == pytest.approx(both.plain, abs=1e-5)
    assert shown[2] == pytest.approx(both.perturbed, abs=1e-5)
    assert shown[3] == pytest.approx(np.minimum(gain * np.abs(both.perturbed - both.plain), 1), abs=1e-3)
    tidy(figure)


def test_gates_are_drawn_for_the_noises_of_each_cell(out: Out, embedded: Embedded, tidy: Callable[[Any], None]) -> None:
    out.planned("sigma=0.1", 1)["config"]["method"]["noise"] |= {"variant": "grad_cam"}
    out.planned("sigma=0.5", 1)["config"]["method"]["noise"] |= {"variant": "both", "threshold": 0.003}
    out.write_plan()
    finish(embedded, *CELLS)
    figure = draw("gate", out.path)
    spread, low_variance, grad_cam = figure.axes
    assert [len(axes.lines) for axes in figure.axes] == [3, 1, 2]  # the first with the threshold of one cell
    assert list(spread.lines[-1].get_ydata()) == [0.003] * 2
    (one,) = [one for one in Records(out.path)["embeddings"] if one.cell == "sigma=0.5"]
    found = gates(one, Chosen(embedded.images["test"], np.linspace(0, 47, 32).round().astype(int)))
    assert list(spread.lines[1].get_ydata()) == sorted(found.spread, reverse=True)
    assert sorted(low_variance.lines[0].get_ydata()) == sorted(found.low_variance)
    assert list(grad_cam.lines[1].get_ydata()) == pytest.approx(sorted(found.grad_cam.ravel()), abs=1e-5)
    tidy(figure)


def test_a_gate_of_no_cell_has_no_panel(out: Out, embedded: Embedded, tidy: Callable[[Any], None]) -> None:
    out.planned("sigma=0.1", 1)["config"]["method"]["noise"] |= {"variant": "grad_cam"}
    out.write_plan()
    finish(embedded, "sigma=0.1")
    figure = draw("gate", out.path)
    assert [axes.get_title(loc="left")[:12] for axes in figure.axes] == ["(a) spread $", "(b) Grad-CAM"]
    assert "τ" not in figure.texts[0].get_text()
    tidy(figure)


def test_rows_of_few_images_stay_small(tidy: Callable[[Any], None]) -> None:
    figure = style.house_style(draw_rows)(
        [Pictures("a name that is too_long_for_its_place_at_the_left $x$\nx", [np.zeros((4, 4, 3))])], "A note."
    )
    (axes,) = figure.axes
    (label,) = labels(figure)
    first, second, *others = label.split("\n")
    assert first == "a name that is"
    assert second.startswith("too_long")
    assert "…" in second
    assert others == [r"\$x\$", "x"]
    width, height = figure.get_size_inches()
    box = axes.get_position()
    assert box.width * width == pytest.approx(1.0)
    assert box.height * height == pytest.approx(1.0)
    tidy(figure)
