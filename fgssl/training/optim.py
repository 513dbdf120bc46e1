"""Construction of the optimizer from its settings."""

import dataclasses
import functools
from collections.abc import Callable

import torch

from fgssl.errors import UserError
from fgssl.methods.method import ParameterGroup
from fgssl.registries import load_implementation
from fgssl.settings.training import OptimizerSettings


def build_optimizer(settings: OptimizerSettings, groups: list[ParameterGroup]) -> torch.optim.Optimizer:
    """Return the optimizer of `groups` in their order; the trainer sets learning rate and weight decay at each step.

    Raise a `UserError` for one that keeps other state than SGD or Adam: the engines create it before the first step.
    """
    # Nothing reads `constant_rate`; it keeps the hashes of states equal to those recorded by earlier versions.
    parameters = [{"params": group.parameters, "constant_rate": group is not groups[0]} for group in groups]
    arguments = dataclasses.asdict(settings)
    del arguments["name"]
    make = functools.partial(load_implementation(settings), lr=arguments.pop("learning_rate"), **arguments)
    if not _keeps_known_state(make):
        raise UserError(
            f"training.optimizer.name {settings.name}: {settings.implementation} keeps state that the engines do not "
            "know; its state must be that of SGD without dampening, or of Adam without amsgrad"
        )
    optimizer: torch.optim.Optimizer = make(parameters)
    return optimizer


def _keeps_known_state(make: Callable[..., torch.optim.Optimizer]) -> bool:
    """Return whether one step leaves the state that `fgssl.training.engines.engine.start_state` creates."""
    probe = torch.nn.Parameter(torch.zeros(1))
    probe.grad = torch.zeros(1)
    optimizer = make([probe])
    if isinstance(optimizer, torch.optim.SGD):
        return not optimizer.defaults["dampening"]
    optimizer.step()
    return set(optimizer.state[probe]) == {"step", "exp_avg", "exp_avg_sq"}
