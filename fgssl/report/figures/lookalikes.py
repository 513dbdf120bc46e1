"""Look-alikes: classes of two genera that an encoder sees as most alike (*HCL*, Fig. 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.centroids import centroids, unit_rows
from fgssl.report.figures import style
from fgssl.report.figures.records import Embedding, NotDrawnError, first_of_each_cell
from fgssl.store.plan import PlanRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

needs = ("plan", "embeddings")

PAIRS, IMAGES = 4, 4
"""Most pairs of classes, and most images of each class."""
SPACE_IN, GAP_IN, TITLE_IN = 0.02, 0.15, 0.2
"""Space between images, between both classes, and for their names."""
SIDE_IN = (style.TWO_COLUMNS - GAP_IN - (2 * IMAGES - 1) * SPACE_IN) / (2 * IMAGES)
PIXELS = 200
"""Side of a drawn image."""


@dataclass(frozen=True)
class Pair:
    """Two classes of different coarse classes whose centroids are near."""

    classes: tuple[int, int]
    cosine: float
    """Cosine of both centroids of training images."""
    images: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Test images of each class, those nearest to the other class's centroid first."""


@style.house_style
def draw(plan: PlanRecord, embeddings: Sequence[Embedding]) -> "Figure":
    """Draw the nearest pairs in the features of the baseline, or of the first cell, with test images of both."""
    cells = first_of_each_cell(list(embeddings))
    one = next((one for one in cells if one.cell == plan.baseline), cells[0])
    if len(one.levels) < 2:
        raise NotDrawnError("the images have fewer than two levels of labels, so there are no classes of two genera")
    pairs = nearest_pairs(one)
    if not pairs:
        raise NotDrawnError(f"no two classes of different {one.levels[1].name} have training and test images")
    figure, grid = style.panels(len(pairs), 2 * IMAGES, width=style.TWO_COLUMNS, panel_height=SIDE_IN + TITLE_IN)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, pair in zip(grid, pairs, strict=True):
        for first, label, images in zip((0, IMAGES), pair.classes, pair.images, strict=True):
            for axes, image in zip(row[first : first + IMAGES], images, strict=False):
                axes.imshow(_square(one.images["test"].pixels(int(image))), interpolation="nearest")
            row[first].set_title(style.shortened(_name(one, label), IMAGES * SIDE_IN - 0.75), pad=2)
        last = row[-1]
        last.set_title(f"cosine {pair.cosine:.3f}", loc="right", color=style.GRAY, fontsize=style.SMALL_POINTS, pad=2)
    note = (
        f"Nearest centroids of {one.levels[0].name} across {one.levels[1].name} ({one.cell}, seed {one.seed}), and "
        "the test images of each class that are nearest to the other."
    )
    _place(style.finish(figure, [], note), grid)
    return figure


def _place(figure: "Figure", grid: Any) -> None:
    """Put the images side by side: a layout that looks at the titles would spread them."""
    width, height = figure.get_size_inches()
    for (row, column), axes in np.ndenumerate(grid):
        left = column * (SIDE_IN + SPACE_IN) + (GAP_IN if column >= IMAGES else 0.0)
        bottom = height - (row + 1) * (SIDE_IN + TITLE_IN) + SPACE_IN
        axes.set_position([left / width, bottom / height, SIDE_IN / width, SIDE_IN / height])


def nearest_pairs(one: Embedding) -> list[Pair]:
    """Return the pairs of largest cosine, each class in one of them at most."""
    train, test = one.images["train"].labels, one.images["test"].labels
    classes, centers = centroids(one.features("train"), train[:, 0])
    there = np.isin(classes, test[:, 0])
    classes, centers = classes[there], centers[there]
    genus_of = dict(zip(*train[:, :2].T.tolist(), strict=True))
    genera = np.array([genus_of[label] for label in classes.tolist()])
    cosine = centers @ centers.T
    cosine[genera[:, None] == genera[None, :]] = -np.inf
    rows = unit_rows(one.features("test"))
    found: list[Pair] = []
    while len(found) < PAIRS and cosine.size and np.isfinite(cosine.max()):
        a, b = sorted(np.unravel_index(int(cosine.argmax()), cosine.shape))
        of_a = _nearest(rows, test[:, 0] == classes[a], centers[b])
        of_b = _nearest(rows, test[:, 0] == classes[b], centers[a])
        found.append(Pair((int(classes[a]), int(classes[b])), float(cosine[a, b]), (of_a, of_b)))
        cosine[[a, b], :] = cosine[:, [a, b]] = -np.inf
    return found


def _nearest(rows: NDArray[np.float64], own: NDArray[np.bool_], center: NDArray[np.float64]) -> NDArray[np.int64]:
    images = np.flatnonzero(own)
    return images[np.argsort(-(rows[images] @ center), kind="stable")][:IMAGES]


def _name(one: Embedding, label: int) -> str:
    genus = int(one.images["train"].labels[one.images["train"].labels[:, 0] == label, 1][0])
    name, of_genus = one.levels[0].classes[label], one.levels[1].classes[genus]
    return name if of_genus.lower() in name.lower() else f"{name} ({of_genus})"


def _square(pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the middle square of an image, at most `PIXELS` wide, so that files stay small."""
    from PIL import Image

    side = min(pixels.shape[:2])
    top, left = ((extent - side) // 2 for extent in pixels.shape[:2])
    image = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(image if side <= PIXELS else image.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS))
