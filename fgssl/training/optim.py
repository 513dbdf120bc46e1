"""Settings -> optimizer."""

import torch
from torch import nn

from fgssl.training.settings import OptimizerSettings, SGDSettings


def build_optimizer(settings: OptimizerSettings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if isinstance(settings, SGDSettings):
        return torch.optim.SGD(
            parameters, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    return torch.optim.Adam(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
