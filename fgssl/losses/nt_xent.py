"""NT-Xent: in-batch softmax over the 2N views (Chen et al. 2020, SimCLR, Eq. 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.shapes import require_pairs
from fgssl.losses.without_self import log_softmax_without_self


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the mean over all 2N anchors of -log p(partner), with the softmax over the 2N - 1 other rows.

    The logits are cosine / temperature (Chen et al. 2020, SimCLR, Eq. 1).

    Args:
        first: (N, D) embeddings of one view, any floating-point type; l2-normalized here.
        second: (N, D) embeddings of the other view; row i is the positive of `first` row i.
        temperature: Divisor of the cosines, above 0.

    Returns:
        Scalar in nats, float32, or float64 if the inputs are float64.

    Raises:
        ValueError: The shapes differ or are not (N, D), or `temperature` is not above 0.
        NoPositivesError: N is 0.
    """
    require_pairs(first, second)
    log_p = log_softmax_without_self(torch.cat([first, second]), temperature)  # (2N, 2N)
    partner = torch.arange(len(log_p), device=log_p.device).roll(len(first))  # (2N,)
    return F.nll_loss(log_p, partner)
