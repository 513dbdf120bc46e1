"""Exponential moving average of a network's weights."""

import torch
from torch import nn


@torch.no_grad()
def update_ema(online: nn.Module, average: nn.Module, momentum: float) -> None:
    """Set average <- momentum * average + (1 - momentum) * online for all parameters, but not for buffers."""
    weights = [parameter.detach() for parameter in online.parameters()]
    if weights:  # torch takes no empty list, and the networks of a wrapper may have no weights
        torch._foreach_lerp_(list(average.parameters()), weights, 1 - momentum)
