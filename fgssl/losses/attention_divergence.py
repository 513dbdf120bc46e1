"""Divergence of an attention map from the map that it should fit (Shu et al. 2022, SAM; 2023, LCR)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_pairs, require_temperature


def attention_divergence_per_row(attention: Tensor, goal: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the divergence KL(softmax(goal / temperature) || softmax(attention / temperature)) of each row.

    Args:
        attention: (N, positions), any floating-point type.
        goal: (N, positions), what `attention` should fit. The gradient reaches it too, so detach it if it must not.
        temperature: Divisor of both, above 0. A low one sharpens both distributions.

    Returns:
        (N,) divergences in nats, float32, or float64 if the inputs are float64; 0 where both rows are equal up to a
        constant.

    Raises:
        ValueError: The shapes differ, are not (N, positions), or `temperature` is not above 0.
        NoPositivesError: N is 0.
    """
    require_temperature(temperature)
    require_pairs(attention, goal)
    with torch.autocast(attention.device.type, enabled=False):
        found, wanted = ((at_least_fp32(rows) / temperature).log_softmax(dim=1) for rows in (attention, goal))
        return F.kl_div(found, wanted, reduction="none", log_target=True).sum(dim=1)
