"""Images, and what a decoder makes of their features with and without noise (*Synthesized Pairs*, Fig. 4)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fgssl.report.figures import style
from fgssl.report.figures.pictures import IMAGES, Pictures, draw_rows, few
from fgssl.report.figures.records import Embedding, evenly_spaced, with_noise, with_weights
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

needs = ("plan", "embeddings")

MOST_CELLS = 2
GAINS = (100, 50, 20, 10, 5, 2, 1)
"""Factors by which differences may be made brighter, so that they can be seen."""


@style.house_style
def draw(plan: PlanRecord, embeddings: Sequence[Embedding]) -> "Figure":
    """Draw test images, and for the first seed of each cell with noise both reconstructions and their difference."""
    from fgssl.report.networks import Chosen, reconstructions

    shown, more = few(with_weights(with_noise(list(embeddings)), "decoder"), MOST_CELLS, plan.baseline)
    images = shown[0].images["test"]
    chosen = Chosen(images, evenly_spaced(len(images), IMAGES))
    made = {one.cell: reconstructions(one, chosen) for one in shown}
    differences = {cell: np.abs(both.perturbed - both.plain) for cell, both in made.items()}
    largest = max(float(np.quantile(one, 0.995)) for one in differences.values())
    gain = next((gain for gain in GAINS if gain * largest <= 1), 1)
    rows = [Pictures("image", chosen.resized(shown[0].config.views.image_size))]
    for cell, both in made.items():
        rows.append(Pictures(f"{cell}\nreconstruction", both.plain))
        rows.append(Pictures(f"{cell}\nwith noise", both.perturbed))
        rows.append(Pictures(f"{cell}\ndifference × {gain}", np.minimum(gain * differences[cell], 1)))
    note = (
        "Test images, rebuilt by the decoder from their features, and from the features with the cell's noise. First "
        "seed of each cell. Scores of Grad-CAM noise are those of the cosine to augmented views, since finished runs "
        f"keep no heads.{more}"
    )
    return draw_rows(rows, note)
