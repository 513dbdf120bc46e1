"""Groups of images, such as the frames of a track."""

import numpy as np
from numpy.typing import NDArray


def classes_across_groups(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> tuple[int, ...]:
    """Return the number of classes at each level with images in several groups, or zeros if no group has two images.

    Args:
        labels: (N, L) classes, finest level first.
        groups: (N,) group of each image.
    """
    names, group_of_row = np.unique(groups, return_inverse=True)
    if len(names) == len(groups):
        return (0,) * labels.shape[1]
    pairs = (np.unique(labels[:, level] * len(names) + group_of_row) for level in range(labels.shape[1]))
    return tuple(int((np.unique(of_level // len(names), return_counts=True)[1] > 1).sum()) for of_level in pairs)
