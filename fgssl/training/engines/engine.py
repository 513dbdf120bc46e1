"""What the trainer asks of whoever holds a method, its gradient and its optimizer, and spreads them over processes."""

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fgssl.batch import Batch, Embeddings
from fgssl.methods.method import Method

State: TypeAlias = dict[str, Any]
"""Tensors and plain values in nested dicts and lists, as a torch `state_dict` has them."""
TorchGroup: TypeAlias = dict[str, Any]
"""One of an optimizer's `param_groups`: its parameters under `params`, and its rates."""


class Engine(ABC):
    """Every process calls the same methods in the same order; afterwards each holds the same method, bit by bit."""

    method: Method
    """The plain module."""

    @property
    @abstractmethod
    def parameter_groups(self) -> list[TorchGroup]:
        """Groups of the optimizer, whose `lr` and `weight_decay` the trainer sets before a step."""

    @abstractmethod
    def online(self, shard: Batch, target: Tensor | None, last: bool) -> Embeddings:
        """Return the method's embeddings of one shard; `last` marks the step's final shard, after which gradients are
        reduced."""

    @abstractmethod
    def backward(self, surrogate: Tensor, last: bool) -> None:
        """Add the gradient of one shard's scalar to that of the step: a sum over all shards of all processes."""

    @abstractmethod
    def step(self) -> Tensor:
        """Complete the gradient, clip it, take one step, forget it; returns the norm before clipping, a scalar.

        With a norm that is not finite, no step is taken where the engine knows it in time: on a GPU it does not ask.
        """

    def step_with(self, gradients: list[Tensor]) -> None:
        """Take one step with a gradient from elsewhere, shaped like the trained parameters, alike on every process."""
        raise NotImplementedError

    @abstractmethod
    def state(self) -> State:
        """Return `method` and `optimizer`, the whole of both on every process, alike for every engine and any number of
        processes; tensors may be those that training goes on to change."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Go on from a `state`."""

    def whole(self) -> AbstractContextManager[Any]:
        """Let every process read all weights of the method within it."""
        return nullcontext()


def worth_a_step(norm: Tensor) -> bool:
    """Whether to step with a gradient of this norm: on a GPU always, since the host would wait for the answer."""
    return norm.device.type == "cuda" or math.isfinite(norm)


def start_state(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer the state that its first step would make, so that states are alike from step 0 on."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if isinstance(optimizer, torch.optim.SGD):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            else:
                optimizer.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
