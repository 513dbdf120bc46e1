"""Colors of classes in plots of points: the largest classes have one each, all others share a gray."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgssl.report.figures import style

OTHERS = "#B9B9B9"


def class_colors(labels: NDArray[np.int64], names: Sequence[str]) -> tuple[NDArray[Any], dict[str, str]]:
    """Return the color (N,) of each image, and the color of each name in the legend.

    Names of equal classes are kept apart by their number.
    """
    colors = list(style.COLORS.values())
    classes, counts = np.unique(labels, return_counts=True)
    order = classes[np.argsort(-counts, kind="stable")]
    if len(order) > len(colors):
        order = order[: len(colors) - 1]
    chosen = {int(found): colors[place] for place, found in enumerate(sorted(order))}
    legend: dict[str, str] = {}
    for found, color in chosen.items():
        name = names[found]
        legend[name if name not in legend else f"{name} ({found})"] = color
    if rest := len(classes) - len(chosen):
        legend[f"{rest} other{'s' * (rest > 1)}"] = OTHERS
    return np.array([chosen.get(int(label), OTHERS) for label in labels]), legend
