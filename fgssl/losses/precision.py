"""Logits and losses are computed in fp32 or finer, whatever the networks' autocast type."""

import torch
from torch import Tensor


def at_least_fp32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
