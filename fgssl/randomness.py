"""Random numbers as a pure function of names and counters, never of history.

Every number depends on (seed, stream, counters, row, column) alone, so it does not change with worker, rank, batch size
or resuming. The mixing function is SplitMix64's finalizer (Steele, Lea and Flood 2014), applied to rows and columns.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

CONSTANTS = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)
"""Increment and both multipliers of SplitMix64."""
_GAMMA, _FIRST, _SECOND = CONSTANTS
_UNIT = 2.0**-53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def stream_key(seed: int, stream: str, counters: tuple[int, ...]) -> NDArray[np.uint64]:
    """Return the 64 bits from which the numbers of a seed, a stream and counters start, (1,) uint64."""
    names = (int(seed), stream, tuple(map(int, counters)))  # the text of numpy's integers differs
    digest = hashlib.sha256(repr(names).encode()).digest()
    return np.frombuffer(digest[:8], dtype="<u8")


def _bits(
    seed: int, stream: str, counters: tuple[int, ...], rows: NDArray[np.int64], columns: int
) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        by_row = _mix(stream_key(seed, stream, counters) + _GAMMA * (rows.astype(np.uint64) + np.uint64(1)))  # (N,)
        by_row = _mix(by_row + _GAMMA)  # without a second round neighboring rows would share columns
        return _mix(by_row[:, None] + _GAMMA * np.arange(1, columns + 1, dtype=np.uint64))  # (N, columns)


def uniform(seed: int, stream: str, *counters: int, rows: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
    """Return uniform numbers in [0, 1), (N, columns); `rows` (N,) are dataset rows, `stream` names the purpose."""
    return (_bits(seed, stream, counters, rows, columns) >> np.uint64(11)).astype(np.float64) * _UNIT


def normal(seed: int, stream: str, *counters: int, rows: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
    """Return standard normal numbers (N, columns) by the transform of Box and Muller (1958); arguments as `uniform`."""
    half = (columns + 1) // 2
    numbers = uniform(seed, stream, *counters, rows=rows, columns=2 * half)
    radius = np.sqrt(-2.0 * np.log1p(-numbers[:, :half]))
    angle = (2.0 * np.pi) * numbers[:, half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :columns]


def permutation(seed: int, stream: str, *counters: int, length: int) -> NDArray[np.int64]:
    """Return the numbers from 0 to `length` - 1 in random order."""
    keys = _bits(seed, stream, counters, np.arange(length, dtype=np.int64), 1)[:, 0]
    return np.argsort(keys, kind="stable")
