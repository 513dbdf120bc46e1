"""Settings -> optimizer."""

import dataclasses
import pkgutil
from typing import Any

import torch

from fgssl.settings.training import OptimizerSettings


def build_optimizer(settings: OptimizerSettings, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return the optimizer of `parameters`, which are groups (`Method.parameter_groups`)."""
    arguments = dataclasses.asdict(settings)
    del arguments["name"]
    return pkgutil.resolve_name(settings.implementation)(parameters, lr=arguments.pop("learning_rate"), **arguments)
