"""Numbers of `fgssl.randomness.normal`, computed on the device, since a step draws millions of them."""

import math

import torch
from torch import Tensor

from fgssl import randomness

_SIGN = 1 << 63


def normal(seed: int, stream: str, *counters: int, rows: Tensor, columns: int) -> Tensor:
    """Return (N, columns) standard normal numbers in float64, on the device of `rows` (N,), int64 dataset indices."""
    half = (columns + 1) // 2
    numbers = _uniform(seed, stream, counters, rows, 2 * half)
    radius = torch.sqrt(-2.0 * torch.log1p(-numbers[:, :half]))
    angle = (2.0 * math.pi) * numbers[:, half:]
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :columns]


def _uniform(seed: int, stream: str, counters: tuple[int, ...], rows: Tensor, columns: int) -> Tensor:
    key = _signed(int(randomness.stream_key(seed, stream, counters)[0]))
    by_row = _mix(key + _GAMMA * (rows + 1))  # (N,)
    by_row = _mix(by_row + _GAMMA)
    steps = _GAMMA * torch.arange(1, columns + 1, device=rows.device)
    bits = _mix(by_row[:, None] + steps)  # (N, columns)
    return _shifted(bits, 11).double() * 2.0**-53


def _mix(state: Tensor) -> Tensor:
    """Apply SplitMix64's finalizer to the 64 bits of each int64; signed products wrap around like unsigned ones."""
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, places: int) -> Tensor:
    """Shift to the right and fill with zeros; torch's own shift keeps the sign."""
    return (state >> places) & ((1 << (64 - places)) - 1)


def _signed(bits: int) -> int:
    return (bits ^ _SIGN) - _SIGN


_GAMMA, _FIRST, _SECOND = (_signed(int(number)) for number in randomness.CONSTANTS)
