"""Program of each process: compare `World` with the same computation on one process. argv: a folder."""

import datetime
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from fgssl.collectives import World, leave
from fgssl.training.tree import BalancedSum

PATIENCE = datetime.timedelta(seconds=77)


def main() -> None:
    dist.init_process_group("gloo", timeout=PATIENCE)
    world = World.joined(torch.device("cpu"))
    checks(world)
    dist.barrier()
    (Path(sys.argv[1]) / f"passed-{world.rank}").touch()
    leave()


def checks(world: World) -> None:
    size, own = world.size, world.share(4 * world.size)
    generator = torch.Generator().manual_seed(0)

    # Rows of several types and shapes, some of them no plain memory.
    whole = {
        "features": torch.randn(4 * size, 3, 2, generator=generator).transpose(1, 2),
        "labels": torch.arange(4 * size),
        "half": torch.randn(4 * size, 5, generator=generator).bfloat16(),
        "double": torch.randn(4 * size, 1, generator=generator, dtype=torch.float64),
    }
    found = world.gather({name: value[own] for name, value in whole.items()})
    for name, value in whole.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name

    # Images, by a permutation; of a view into an array that numpy has laid out in its own way.
    images = np.arange(4 * size * 3 * 2, dtype=np.uint8).reshape(4 * size, 3, 2)
    order = np.random.default_rng(1).permutation(4 * size)
    shuffled = world.shuffled(torch.from_numpy(images[own][:, [2, 0]]), order)
    assert np.array_equal(shuffled.numpy(), images[order[own]][:, [2, 0]])

    # Sums of 4 shards on each process, of a length that the processes do not divide.
    shards = torch.randn(4 * size, 1003, generator=generator) * torch.logspace(-6, 6, 4 * size)[:, None]
    plain = world.sum(shards[own].sum(dim=0))
    torch.testing.assert_close(plain.double(), shards.double().sum(dim=0), rtol=1e-5, atol=0.1)
    if size > 1:  # a group that a library makes
        backend = dist.new_group()._get_backend(world.device)  # type: ignore[union-attr]
        assert backend.options._timeout != PATIENCE
        world.share_patience()
        assert backend.options._timeout == PATIENCE
    if size.bit_count() == 1:
        assert torch.equal(world.tree_sum(tree(shards[own])), tree(shards))
        assert not torch.equal(tree(shards), shards.sum(dim=0))  # else the test shows nothing

    assert world.agree_max([world.rank, 5 - world.rank]) == [size - 1, 5]
    assert world.broadcast({"from": world.rank}) == {"from": 0}
    state = {
        "weights": [torch.arange(6.0).reshape(2, 3).T, torch.ones(3).bfloat16()],
        "step": torch.tensor(4),
        "lr": 0.1,
    }
    received = world.broadcast_tensors(state if world.rank == 0 else None)
    assert torch.equal(received["weights"][0], state["weights"][0])  # type: ignore[index]
    assert received["weights"][1].dtype == torch.bfloat16
    assert (received["step"].item(), received["lr"]) == (4, 0.1)
    assert world.sum(torch.zeros(0)).shape == world.tree_sum(torch.zeros(0)).shape == (0,)
    tensor = torch.full((2, 3, 4, 5), float(world.rank)).to(memory_format=torch.channels_last)
    world.broadcast_into([tensor])
    assert (tensor == 0).all()


def tree(shards: torch.Tensor) -> torch.Tensor:
    total = BalancedSum()
    for shard in shards:
        total.add(shard.clone())
    return total.total()


if __name__ == "__main__":
    main()
