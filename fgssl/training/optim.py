"""Settings -> optimizer."""

import torch

from fgssl.methods.method import ParameterGroup
from fgssl.settings.training import AdamSettings, OptimizerSettings, SGDSettings


def build_optimizer(settings: OptimizerSettings, groups: list[ParameterGroup]) -> torch.optim.Optimizer:
    """Return the optimizer of these groups, in their order; the trainer sets their rates and decays at each step."""
    parameters = [{"params": group.parameters, "constant_rate": group is not groups[0]} for group in groups]
    if isinstance(settings, SGDSettings):
        return torch.optim.SGD(
            parameters, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    kind = torch.optim.Adam if isinstance(settings, AdamSettings) else torch.optim.AdamW
    return kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
