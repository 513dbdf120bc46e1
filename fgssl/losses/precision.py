"""Floating-point type of logits and losses, whatever the networks' autocast type is."""

import torch
from torch import Tensor


def at_least_fp32(values: Tensor) -> Tensor:
    """Return float64 values as they are, and values of any other type as float32; the shape stays."""
    return values if values.dtype == torch.float64 else values.float()
