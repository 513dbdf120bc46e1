"""The processes that train one run together, as their launcher tells one of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Processes:
    rank: int = 0
    """This one among all, from 0."""
    world_size: int = 1
    local_rank: int = 0
    """This one among those of its node: the number of its GPU."""
    local_world_size: int = 1
    launcher: str = "python"
    """What started them, for messages: `python`, `torchrun`, `accelerate launch`, `srun`."""


ALONE = Processes()
