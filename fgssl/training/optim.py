"""Settings -> optimizer."""

from typing import Any

import torch

from fgssl.settings.training import AdamSettings, OptimizerSettings, SGDSettings


def build_optimizer(settings: OptimizerSettings, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """`parameters` are groups (`Method.parameter_groups`)."""
    if isinstance(settings, SGDSettings):
        return torch.optim.SGD(
            parameters, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    kind = torch.optim.Adam if isinstance(settings, AdamSettings) else torch.optim.AdamW
    return kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
