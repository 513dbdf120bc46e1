"""Checks of the losses' arguments.

Without them a wrong shape would broadcast into a wrong loss, an empty batch would give NaN, and a negative temperature
would push positives apart.
"""

from torch import Tensor

from fgssl.errors import NoPositivesError


def require_pairs(first: Tensor, second: Tensor) -> None:
    """Require two tensors of one shape (N, D), N >= 1, whose rows are compared in pairs.

    Raises:
        ValueError: The shapes differ, or are not (N, D).
        NoPositivesError: N is 0.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"shapes {tuple(first.shape)} and {tuple(second.shape)}: must be the same (N, D), one pair per row"
        )
    if not len(first):
        raise NoPositivesError("an empty batch has no positive pair: give at least one row")


def require_two_rows(rows: Tensor) -> None:
    """Require at least two rows, over which the spread of each dimension is taken.

    Raises:
        ValueError: There is one row.
    """
    if len(rows) < 2:
        raise ValueError("a batch of one image has no spread: give at least two rows")


def require_labels(labels: Tensor, rows: int, levels: int | None = None) -> None:
    """Require labels (rows,), or (rows, levels) if `levels` is given.

    Raises:
        ValueError: The labels have another shape.
    """
    expected = (rows,) if levels is None else (rows, levels)
    if tuple(labels.shape) != expected:
        raise ValueError(f"labels of shape {tuple(labels.shape)}: must be {expected}, one row per embedding")


def require_temperature(temperature: float) -> None:
    """Require a number above 0.

    Raises:
        ValueError: The temperature is 0, negative or NaN.
    """
    if not temperature > 0:  # not `<= 0`, which NaN would pass
        raise ValueError(f"temperature {temperature}: must be above 0")
