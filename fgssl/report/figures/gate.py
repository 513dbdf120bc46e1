"""Gates of the noise: which dimensions of a feature it changes, and how much (*Synthesized Pairs*, Fig. 2)."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.figures import style
from fgssl.report.figures.pictures import few
from fgssl.report.figures.records import Embedding, evenly_spaced, with_noise, with_weights
from fgssl.settings.noise import VARIANTS, QuantileThreshold
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

needs = ("plan", "embeddings")

GATES = {
    "low_variance": r"low-variance gate $1-\tilde{v}$, 0 above $\tau$",
    "grad_cam": r"Grad-CAM gate $1-\tilde{G}$",
}
"""Title of the panel of each term of the noise."""
MOST_CELLS = 9
IMAGES = 32
"""Test images over which the Grad-CAM gate is shown."""


@style.house_style
def draw(plan: PlanRecord, embeddings: Sequence[Embedding]) -> "Figure":
    """Draw the spread of the dimensions and both gates, for the first seed of each cell with noise."""
    from fgssl.report.networks import Chosen, gates

    shown, more = few(with_weights(with_noise(list(embeddings)), "encoder"), MOST_CELLS, plan.baseline)
    images = shown[0].images["test"]
    chosen = Chosen(images, evenly_spaced(len(images), IMAGES))
    gates_shown = [gate for gate in GATES if any(_has(one, gate) for one in shown)]
    figure, grid = style.panels(1, 1 + len(gates_shown), width=style.TWO_COLUMNS, panel_height=1.9)
    spread, panels = grid[0, 0], dict(zip(gates_shown, grid[0, 1:], strict=True))
    looks, handles = style.looks(cell.cell for cell in plan.cells), dict[str, Any]()
    for one in shown:
        found, look = gates(one, chosen), {**looks[one.cell], "marker": "none"}
        order = np.argsort(-found.spread, kind="stable")
        handles[one.cell] = _line(spread, found.spread[order], look)
        if _has(one, "low_variance"):
            _line(panels["low_variance"], found.low_variance[order], look)
            _threshold(spread, one, look)
        if _has(one, "grad_cam"):
            _line(panels["grad_cam"], np.sort(found.grad_cam, axis=None), look)
    spread.set_title("spread $v$")
    spread.set_ylim(bottom=0)
    for gate, axes in panels.items():
        axes.set_title(GATES[gate])
        axes.set_ylim(-0.03, 1.03)
    for axes in grid[0]:
        axes.set_xlim(0, 100)
        axes.set_xlabel("dimensions (%)")
    style.letter(grid[0])
    return style.finish(figure, [handles], _note(gates_shown, len(chosen)) + more)


def _note(gates_shown: Sequence[str], images: int) -> str:
    order = "Spread: dimensions from the largest spread over training images to the smallest"
    if "low_variance" in gates_shown:
        order += "; dashed: threshold τ. Low-variance gate: in the same order"
    if "grad_cam" in gates_shown:
        order += (
            f". Grad-CAM gate: dimensions of {images} test images from the lowest gate to the highest, with scores of "
            "the cosine to augmented views, since finished runs keep no heads"
        )
    return f"Each gate multiplies the standard deviation of its noise: 0 is no noise. {order}. First seed of each cell."


def _line(axes: Any, values: NDArray[np.float32], look: Mapping[str, Any]) -> Any:
    """Draw values in their order against the share of them in percent."""
    (line,) = axes.plot((np.arange(len(values)) + 0.5) / len(values) * 100, values, **look)
    return line


def _threshold(axes: Any, one: Embedding, look: Mapping[str, Any]) -> None:
    noise = one.config.method.added_noise
    assert noise is not None
    tau = noise.threshold
    if not isinstance(tau, QuantileThreshold) and math.isfinite(tau):
        axes.axhline(tau, color=look["color"], linewidth=0.8, linestyle=(0, (3, 2)))


def _has(one: Embedding, term: str) -> bool:
    """Return whether the noise has a term; `random` has the mean square of both."""
    noise = one.config.method.added_noise
    assert noise is not None
    return bool(VARIANTS[noise.variant].keys() & {term, "random"})
