"""How often a run is tried again, by what ended it before. One that failed by itself is tried again when told to."""

from fgssl.settings.declare import NonNegativeInt, settings


@settings
class Retries:
    """Most repetitions of a run after each kind of end."""

    timeouts: NonNegativeInt = 3
    """Jobs that reached their time limit, since the last one that brought the run further: that was a part of it."""
    preemptions: NonNegativeInt = 100
    """Jobs that the scheduler took away, likewise counted."""
    node_failures: NonNegativeInt = 5
    """Also jobs that ended without a word."""
    memory: NonNegativeInt = 0
    """Jobs that took more than they had asked for: the same again would do the same, so raise memory_gb_per_node."""
