"""Contract between the trainer and an engine, which spreads a method, its gradient and its optimizer over processes."""

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fgssl.batch import Batch, Embeddings
from fgssl.methods.method import Method

State: TypeAlias = dict[str, Any]
"""Tensors and plain values in nested dicts and lists, as in a torch `state_dict`."""
TorchGroup: TypeAlias = dict[str, Any]
"""One of an optimizer's `param_groups`: parameters under `params`, and their rates."""


class Engine(ABC):
    """Holder of a method and its optimizer.

    Every process calls the same methods in the same order. After a step each process holds the same method, bit by bit.
    """

    method: Method
    """Plain module, without a wrapper."""

    @property
    @abstractmethod
    def parameter_groups(self) -> list[TorchGroup]:
        """Groups of the optimizer, whose `lr` and `weight_decay` the trainer sets before each step."""

    @abstractmethod
    def online(self, shard: Batch, target: Tensor | None, last: bool) -> Embeddings:
        """Return the method's embeddings of one shard.

        `last` marks the step's final shard; gradients are reduced after it.
        """

    @abstractmethod
    def backward(self, surrogate: Tensor, last: bool) -> None:
        """Add the gradient of one shard's scalar to that of the step, a sum over all shards of all processes."""

    @abstractmethod
    def step(self) -> Tensor:
        """Complete the gradient, clip it, take one step and clear it; return the norm before clipping, a scalar.

        If the norm is not finite, no step is taken on a CPU. On a GPU the host would have to wait for the norm, so the
        step may be taken.
        """

    def step_with(self, gradients: list[Tensor]) -> None:
        """Take one step with a gradient from elsewhere, a tensor per trained parameter, equal on every process."""
        raise NotImplementedError

    @abstractmethod
    def state(self) -> State:
        """Return the whole `method` and `optimizer` on every process.

        They are equal for every engine and any number of processes. Training may change these tensors later.
        """

    @abstractmethod
    def load(self, state: State) -> None:
        """Continue from a `state`."""

    def whole(self) -> AbstractContextManager[Any]:
        """Return a context in which every process can read all weights of the method."""
        return nullcontext()


def worth_a_step(norm: Tensor) -> bool:
    """Return whether to step with a gradient of this norm.

    On a GPU it is always true, since the host would wait for the answer.
    """
    return norm.device.type == "cuda" or math.isfinite(norm)


def start_state(optimizer: torch.optim.Optimizer) -> None:
    """Create the state that the optimizer's first step would create, so that states have equal keys from step 0 on."""
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
