"""Engine of `invariant: exact`: gradients are summed in one tree over all shards of all processes.

The bits are the same for 1, 2, 4 and 8 processes. The cost is an addition per shard, a few gradients in memory, and
communication that does not overlap with computation.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from fgssl.batch import Batch, Embeddings
from fgssl.collectives import World
from fgssl.training.engines.engine import Engine, State, TorchGroup, worth_a_step
from fgssl.training.tree import BalancedSum


class Exact(Engine):
    """Engine that computes the gradient, while its `stepper` holds the optimizer and takes the steps."""

    def __init__(self, stepper: Engine, world: World, clip_norm: float | None = None) -> None:
        self.method, self._stepper, self._world, self._clip_norm = stepper.method, stepper, world, clip_norm
        self._parameters = self.method.trained_parameters()
        self._sum = BalancedSum()

    @property
    def parameter_groups(self) -> list[TorchGroup]:
        """Groups of the stepper's optimizer."""
        return self._stepper.parameter_groups

    def online(self, shard: Batch, target: Tensor | None, last: bool) -> Embeddings:
        """Return the embeddings of one shard from the plain module."""
        return self.method(shard, target)

    def backward(self, surrogate: Tensor, last: bool) -> None:
        """Add the gradient of one shard to the tree of this process."""
        gradients = torch.autograd.grad(surrogate, self._parameters, allow_unused=True, materialize_grads=True)
        self._sum.add(torch.cat([gradient.reshape(-1) for gradient in gradients]))  # (P,)

    def step(self) -> Tensor:
        """Sum the gradients over processes, clip, let the stepper take one step; return the norm before clipping."""
        flat, self._sum = self._world.tree_sum(self._sum.total()), BalancedSum()
        norm = flat.norm()
        if self._clip_norm is not None:
            flat *= (self._clip_norm / (norm + 1e-6)).clamp(max=1.0)  # the formula of torch.nn.utils.clip_grad_norm_
        if not worth_a_step(norm):
            return norm
        parts = flat.split([parameter.numel() for parameter in self._parameters])
        shaped = [part.view(parameter.shape) for part, parameter in zip(parts, self._parameters, strict=True)]
        self._stepper.step_with(shaped)
        return norm

    def state(self) -> State:
        """Return the state of the stepper."""
        return self._stepper.state()

    def load(self, state: State) -> None:
        """Load a `state` into the stepper."""
        self._stepper.load(state)

    def whole(self) -> AbstractContextManager[Any]:
        """Return the stepper's context in which all weights can be read."""
        return self._stepper.whole()
