"""Processes that train one run together, as seen by one of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Processes:
    """Place of one process among those of its run, as its launcher gives it."""

    rank: int = 0
    """Number of this process among all, from 0."""
    world_size: int = 1
    """Number of processes of the run."""
    local_rank: int = 0
    """Number of this process among those of its node, which is also the number of its GPU."""
    local_world_size: int = 1
    """Number of processes on this node."""
    launcher: str = "python"
    """Launcher of the processes, for messages: `python`, `torchrun`, `accelerate launch` or `srun`."""


ALONE = Processes()
"""Only process of its run."""
