"""NT-Xent: in-batch softmax over the 2N images (Chen et al. 2020, SimCLR, Eq. 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.precision import at_least_fp32


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean over the 2N anchors, self excluded; a scalar in fp32 or finer.

    first, second (N, D) are a positive pair row by row; l2-normalised here.
    """
    rows = torch.cat([first, second])
    with torch.autocast(rows.device.type, enabled=False):  # which would take the product in half precision
        rows = F.normalize(at_least_fp32(rows), dim=1)  # (2N, D)
        logits = rows @ rows.T / temperature  # (2N, 2N)
    logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), -torch.inf)
    partner = torch.arange(len(rows), device=rows.device).roll(len(first))  # (2N,)
    return F.cross_entropy(logits, partner)
