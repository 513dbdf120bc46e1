"""Images in rows with a label each, for figures that compare cells on the same images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.figures import style
from fgssl.report.figures.records import Embedding, evenly_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 6
"""Most test images that are shown."""
LABEL_IN, SPACE_IN, LARGEST_IN = 1.3, 0.03, 1.0
"""Width of the labels, space between images, and largest side of an image."""


@dataclass(frozen=True)
class Pictures:
    """Row of images, (h, w, 3) each, and its label."""

    label: str
    """Text beside the row; its lines are broken at spaces, and words that are too long are shortened."""
    images: Iterable[NDArray[Any]]


def draw_rows(rows: Sequence[Pictures], note: str) -> "Figure":
    """Draw rows of equally many images in two columns' width."""
    columns = len(list(rows[0].images))
    side = min(LARGEST_IN, (style.TWO_COLUMNS - LABEL_IN) / columns - SPACE_IN)
    pitch = side + SPACE_IN
    width = LABEL_IN + columns * pitch
    figure, grid = style.panels(len(rows), columns, width=width, panel_height=pitch)
    for axes_of_row, row in zip(grid, rows, strict=True):
        for axes, image in zip(axes_of_row, row.images, strict=True):
            axes.set_axis_off()
            axes.imshow(image, interpolation="nearest", aspect="auto")
        lines = "\n".join(line for part in row.label.split("\n") for line in _broken(part))
        label = axes_of_row[0].text(-0.06 / side, 0.5, lines, transform=axes_of_row[0].transAxes)
        label.set(ha="right", va="center", fontsize=style.SMALL_POINTS, linespacing=1.3, in_layout=False)
    style.finish(figure, [], note)
    height = figure.get_size_inches()[1]
    for (row_number, column), axes in np.ndenumerate(grid):
        left, bottom = LABEL_IN + column * pitch, height - (row_number + 1) * pitch
        axes.set_position([left / width, bottom / height, side / width, side / height])
    return figure


def _broken(text: str) -> list[str]:
    """Return the lines of a label, as few as fit beside a row of images."""
    room, lines = LABEL_IN - 0.12, [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if style.text_width(longer, style.SMALL_POINTS) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return [style.shortened(line, room, style.SMALL_POINTS) for line in lines if line]


def few(cells: Sequence[Embedding], most: int, baseline: str | None) -> tuple[list[Embedding], str]:
    """Return at most `most` cells in equal steps, the baseline among them, and a sentence about the others."""
    if len(cells) <= most:
        return list(cells), ""
    others = [one for one in cells if one.cell != baseline]
    room = most - (len(cells) - len(others))
    chosen = [others[place].cell for place in evenly_spaced(len(others), room)]
    rest = len(cells) - most
    more = f" {rest} more cell{'s are' if rest > 1 else ' is'} not shown."
    return [one for one in cells if one.cell in (*chosen, baseline)], more
