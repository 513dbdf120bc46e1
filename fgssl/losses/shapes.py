"""What the losses are given, checked: a wrong shape would broadcast into a wrong loss, an empty batch into NaN, a
negative temperature would push positives apart."""

from torch import Tensor

from fgssl.errors import NoPositivesError


def require_pairs(first: Tensor, second: Tensor) -> None:
    """Require two tensors (N, D), N >= 1, that are compared row by row.

    Raises:
        ValueError: other shapes, which are named; `NoPositivesError`, if N = 0.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"shapes {tuple(first.shape)} and {tuple(second.shape)}: must both be one (N, D), a pair in each row"
        )
    if not len(first):
        raise NoPositivesError("an empty batch has no positive pair: give at least one row")


def require_labels(labels: Tensor, rows: int, levels: int | None = None) -> None:
    """Require labels (M,) of `rows` embeddings, or (M, L) where the number of `levels` is given.

    Raises:
        ValueError: another shape, which is named.
    """
    expected = (rows,) if levels is None else (rows, levels)
    if tuple(labels.shape) != expected:
        raise ValueError(f"labels of shape {tuple(labels.shape)}: must be {expected}, one row for each embedding")


def require_temperature(temperature: float) -> None:
    """Require a number above 0; raise a `ValueError` otherwise."""
    if not temperature > 0:  # also of NaN
        raise ValueError(f"temperature {temperature}: must be above 0")
