"""InfoNCE with a queue of negatives (van den Oord et al. 2018; He et al. 2020, Eq. 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_pairs, require_temperature


def info_nce_per_row(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return the loss of each query, (N,), in fp32 or finer.

    query, key (N, D) are a positive pair row by row; queue (K, D) holds the negatives. All are l2-normalized here.

    Raises:
        ValueError: shapes that do not fit, a temperature that is not above 0; `NoPositivesError`, if N = 0.
    """
    require_temperature(temperature)
    require_pairs(query, key)
    if queue.ndim != 2 or queue.shape[1] != query.shape[1]:
        raise ValueError(f"queue of shape {tuple(queue.shape)}: must be (K, {query.shape[1]}), as wide as the queries")
    with torch.autocast(query.device.type, enabled=False):  # which would take the product in half precision
        query, key, queue = (F.normalize(at_least_fp32(rows), dim=1) for rows in (query, key, queue))
        positive = (query * key).sum(dim=1, keepdim=True)  # (N, 1)
        negative = query @ queue.T  # (N, K)
        logits = torch.cat([positive, negative], dim=1) / temperature  # (N, 1+K)
    return torch.logsumexp(logits, dim=1) - logits[:, 0]
