"""Construction of the optimizer from its settings."""

import dataclasses
import pkgutil

import torch

from fgssl.methods.method import ParameterGroup
from fgssl.settings.training import OptimizerSettings


def build_optimizer(settings: OptimizerSettings, groups: list[ParameterGroup]) -> torch.optim.Optimizer:
    """Return the optimizer of `groups` in their order; the trainer sets learning rate and weight decay at each step."""
    # Nothing reads `constant_rate`; it keeps the hashes of states equal to those recorded by earlier versions.
    parameters = [{"params": group.parameters, "constant_rate": group is not groups[0]} for group in groups]
    arguments = dataclasses.asdict(settings)
    del arguments["name"]
    optimizer: torch.optim.Optimizer = pkgutil.resolve_name(settings.implementation)(
        parameters, lr=arguments.pop("learning_rate"), **arguments
    )
    return optimizer
