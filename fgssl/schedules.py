"""Schedules of numbers over training, as functions of progress in [0, 1]."""

import math
from dataclasses import dataclass
from typing import Literal


def cosine(progress: float) -> float:
    """Return a factor that falls from 1 to 0 along half a cosine (Loshchilov and Hutter 2017)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Schedule:
    """Course of a number from `start` to `end` over training: a learning rate, a weight decay or a momentum."""

    start: float
    end: float = 0.0
    """Value at progress 1; ignored if the shape is constant."""
    shape: Literal["constant", "cosine", "linear"] = "cosine"
    warm_up: float = 0.0
    """Share of training in which the value rises linearly from 0. It multiplies the shape, which runs over the whole of
    training."""
    delay: float = 0.0
    """Share of training in which the value is 0, before it takes the course of the other fields."""

    def at(self, progress: float) -> float:
        """Return the value at `progress` in [0, 1]."""
        if progress < self.delay:
            return 0.0
        rise = min(1.0, progress / self.warm_up) if self.warm_up > 0 else 1.0
        if self.shape == "constant":
            return self.start * rise
        remaining = cosine(progress) if self.shape == "cosine" else 1.0 - progress
        return self.end * rise + (self.start - self.end) * (remaining * rise)
