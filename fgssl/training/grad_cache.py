"""Gradient of one step over the global batch, in shards that fit into memory, on any number of processes."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl.batch import Batch, Embeddings, Output
from fgssl.collectives import World
from fgssl.encoders.batch_norm import RunningStatistics, frozen_batch_norm_statistics
from fgssl.losses import at_least_fp32
from fgssl.methods.method import Method
from fgssl.training.engines.engine import Engine
from fgssl.training.tree import BalancedSum
from fgssl.upload import upload

Autocast = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Shuffled:
    """Share of this process in the shuffled global batch, for the branch without gradient.

    By the shuffle a key is normalized with other images than its query is (He et al. 2020, Sec. 3.3).
    """

    views: tuple[Tensor, ...]
    """Views of the method's `target_views`, each (n, C, H, W)."""
    order: NDArray[np.int64]
    """Positions (N,) in the global batch, a function of seed and step."""


@dataclass(frozen=True)
class GradCache:
    """Gradient caching (Gao et al. 2021): computation of a step's gradient in shards."""

    world: World
    shard_size: int
    """Number of images that go through the networks at once; it divides each process's share of the batch."""
    exact: bool
    """Whether the bits must not depend on the number of processes; sums over processes are trees then."""
    autocast: Autocast

    def accumulate_gradient(
        self, engine: Engine, batch: Batch, shuffled: Shuffled | None, progress: float
    ) -> tuple[Output, Embeddings, Tensor | None]:
        """Give `engine` the gradient of the global batch's loss; `batch` (n images) is this process's share.

        With several shards the embeddings are computed twice: first without graph for the loss over all images, then
        shard by shard with graph, where each shard gets the gradient of its embeddings (Gao et al. 2021, GradCache).
        This needs the memory of one shard and gives the result of the whole. Every process evaluates the loss on the
        gathered embeddings, so only embeddings are communicated.

        Returns:
            Output of the loss, and the detached online embeddings and the target of the *global* batch.
        """
        method = engine.method
        first_position = self.world.share(len(batch) * self.world.size).start
        with RunningStatistics(method) as statistics:
            target, moves_of_target = self._target(method, shuffled, statistics)
            shards = list(batch.shards(self.shard_size))
            starts = [first_position + index * self.shard_size for index in range(len(shards))]

            def online_of(index: int) -> Embeddings:
                shard, start = shards[index], starts[index]
                own_target = None if target is None else target[start : start + len(shard)]
                with self.autocast():
                    online = engine.online(shard, own_target, last=index == len(shards) - 1)
                # Their gradient, times the loss scale of fp16, may be larger than fp16 can hold.
                return {
                    name: at_least_fp32(value) if value.is_floating_point() else value for name, value in online.items()
                }

            moves = BalancedSum()
            parts = []
            # `exact` always builds a graph, since kernels may compute other bits without, and the number of shards in
            # a process must not matter.
            with torch.set_grad_enabled(self.exact or len(shards) == 1):
                for index in range(len(shards)):
                    parts.append(online_of(index) if len(shards) == 1 else _detached(online_of(index)))
                    moves.add(statistics.taken())
            statistics.move(self._over_processes(moves.total() + moves_of_target))

            leaves = self.world.gather({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
            for leaf in leaves.values():
                leaf.requires_grad_(leaf.is_floating_point())  # labels may be among them
            output = method.loss(leaves, target, progress)
            output.loss.backward()

            with frozen_batch_norm_statistics(method):  # they have been updated above
                for index in range(len(shards)):
                    online = parts.pop() if len(shards) == 1 else online_of(index)
                    part = slice(starts[index], starts[index] + len(shards[index]))
                    engine.backward(_surrogate(online, leaves, part), last=index == len(shards) - 1)
        return output, _detached(leaves), target

    def _target(
        self, method: Method, shuffled: Shuffled | None, statistics: RunningStatistics
    ) -> tuple[Tensor | None, Tensor]:
        """Return the target (N, P) of the global batch or None, and the sums for the running statistics."""
        if shuffled is None:
            return None, statistics.taken()
        moves, parts = BalancedSum(), []
        with torch.no_grad(), self.autocast():
            for views in zip(*(view.split(self.shard_size) for view in shuffled.views), strict=True):
                parts.append(method.target(*views))
                moves.add(statistics.taken())
        gathered = self.world.gather({"target": torch.cat(parts)})["target"]  # shuffled
        return gathered[upload(np.argsort(shuffled.order), gathered.device)], moves.total()

    def _over_processes(self, flat: Tensor) -> Tensor:
        return self.world.tree_sum(flat) if self.exact else self.world.sum(flat)


def _surrogate(online: Embeddings, leaves: Embeddings, part: slice) -> Tensor:
    """Return a scalar whose gradient by `online`, the rows `part` of `leaves`, is that of the loss."""
    products = [
        (online[name] * leaf.grad[part]).sum()
        for name, leaf in leaves.items()
        if leaf.grad is not None and online[name].requires_grad
    ]
    return sum(products[1:], start=products[0])


def _detached(embeddings: Embeddings) -> Embeddings:
    return {name: value.detach() for name, value in embeddings.items()}
