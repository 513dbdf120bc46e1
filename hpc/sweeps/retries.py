"""Retries of a run on a cluster, by the end of its last job.

A run that failed by itself is repeated only by `fgssl retry`.
"""

from fgssl.settings.declare import NonNegativeInt, settings


@settings
class Retries:
    """Most repetitions of a run after each kind of end."""

    timeouts: NonNegativeInt = 3
    """Jobs that reached their time limit since the last job that brought the run further. Jobs that bring it further do
    not count, since a long run takes several."""
    preemptions: NonNegativeInt = 100
    """Jobs that the scheduler preempted since the last job that brought the run further. Preemption is not the run's
    fault, hence the high default."""
    node_failures: NonNegativeInt = 5
    """Jobs whose node failed, or that left no record of their end."""
    memory: NonNegativeInt = 0
    """Jobs that exceeded their memory. The same job would exceed it again, so the default is 0: submit the sweep with
    a higher `jobs.NAME.memory_gb_per_node`, then use `fgssl retry`."""
