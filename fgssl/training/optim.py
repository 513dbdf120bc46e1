"""Construction of the optimizer from its settings."""

import dataclasses
import pkgutil

import torch

from fgssl.errors import UserError
from fgssl.methods.method import ParameterGroup
from fgssl.settings.training import OptimizerSettings


def build_optimizer(settings: OptimizerSettings, groups: list[ParameterGroup]) -> torch.optim.Optimizer:
    """Return the optimizer of `groups` in their order; the trainer sets learning rate and weight decay at each step.

    Raise a `UserError` for one that keeps other state than SGD or Adam: the engines create it before the first step.
    """
    # Nothing reads `constant_rate`; it keeps the hashes of states equal to those recorded by earlier versions.
    parameters = [{"params": group.parameters, "constant_rate": group is not groups[0]} for group in groups]
    arguments = dataclasses.asdict(settings)
    del arguments["name"]
    optimizer: torch.optim.Optimizer = pkgutil.resolve_name(settings.implementation)(
        parameters, lr=arguments.pop("learning_rate"), **arguments
    )
    kept = isinstance(optimizer, torch.optim.SGD | torch.optim.Adam | torch.optim.AdamW)
    if not kept or any(optimizer.defaults.get(name) for name in ("amsgrad", "dampening")):
        raise UserError(
            f"training.optimizer.name {settings.name}: {settings.implementation} keeps state that the engines do not "
            "know; its state must be that of SGD without dampening, or of Adam without amsgrad"
        )
    return optimizer
