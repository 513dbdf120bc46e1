"""NT-Xent: in-batch softmax over the 2N images (Chen et al. 2020, SimCLR, Eq. 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.shapes import require_pairs
from fgssl.losses.without_self import log_softmax_without_self


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the mean over the 2N anchors, self excluded; a scalar in fp32 or finer.

    first, second (N, D) are a positive pair row by row; l2-normalized here.

    Raises:
        ValueError: shapes that differ, a temperature that is not above 0; `NoPositivesError`, if N = 0.
    """
    require_pairs(first, second)
    log_p = log_softmax_without_self(torch.cat([first, second]), temperature)  # (2N, 2N)
    partner = torch.arange(len(log_p), device=log_p.device).roll(len(first))  # (2N,)
    return F.nll_loss(log_p, partner)
