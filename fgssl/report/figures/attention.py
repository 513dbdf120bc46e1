"""Attention by Grad-CAM without labels, cell below cell on the same images (*Synthesized Pairs*, Fig. 3)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.figures import style
from fgssl.report.figures.pictures import IMAGES, Pictures, draw_rows, few
from fgssl.report.figures.records import Embedding, evenly_spaced, with_weights
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

needs = ("plan", "embeddings")

MOST_CELLS = 7


@style.house_style
def draw(plan: PlanRecord, embeddings: Sequence[Embedding]) -> "Figure":
    """Draw test images, and for each cell's first seed where their similarity to augmented views comes from."""
    from fgssl.report.networks import VIEWS, Chosen, attention

    shown, more = few(with_weights(list(embeddings), "encoder"), MOST_CELLS, plan.baseline)
    images = shown[0].images["test"]
    chosen = Chosen(images, evenly_spaced(len(images), IMAGES))
    rows = [Pictures("image", chosen.resized(shown[0].config.views.image_size))]
    rows += [Pictures(one.cell, _overlays(chosen, attention(one, chosen))) for one in shown]
    note = (
        "Grad-CAM on the encoder, without labels: bright regions carry the similarity between the feature of a "
        f"test image and those of {VIEWS} augmented views of it. Each map is scaled from its lowest value (dark) to "
        f"its highest (yellow). First seed of each cell.{more}"
    )
    return draw_rows(rows, note)


def _overlays(chosen: Any, maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return maps (n, S, S) as colors over their images in gray, (n, S, S, 3)."""
    from matplotlib import colormaps

    gray = chosen.resized(maps.shape[1]).mean(axis=3, keepdims=True) / 255
    mixed = 0.45 * gray + 0.55 * colormaps["inferno"](maps)[..., :3]
    return (255 * mixed).round().astype(np.uint8)
