"""Numbers that change over training, as functions of progress in [0, 1]."""

import math


def cosine(progress: float) -> float:
    """Factor that falls from 1 to 0 along half a cosine (Loshchilov and Hutter 2017)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def learning_rate_factor(progress: float, schedule: str, warm_up: float) -> float:
    """Factor of the base learning rate; `warm_up` is the share of training with a linear rise from 0.

    The schedule runs over the whole of training, the rise lies on top of it.
    """
    factor = cosine(progress) if schedule == "cosine" else 1.0
    return factor * min(1.0, progress / warm_up) if warm_up > 0 else factor
