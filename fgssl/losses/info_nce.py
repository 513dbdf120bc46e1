"""InfoNCE with a queue of negatives (van den Oord et al. 2018; He et al. 2020, Eq. 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_pairs, require_temperature


def info_nce_per_row(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return the InfoNCE loss of each query against its key and a queue of negatives.

    Row i is -log softmax of the positive logit cos(query_i, key_i) / temperature among itself and the K negative logits
    cos(query_i, queue_k) / temperature (van den Oord et al. 2018; He et al. 2020, MoCo, Eq. 1).

    Args:
        query: (N, D), any floating-point type; l2-normalized here, as are `key` and `queue`.
        key: (N, D); row i is the positive of `query` row i. Detach it if it must get no gradient.
        queue: (K, D) negatives, shared by all queries.
        temperature: Divisor of the cosines, above 0.

    Returns:
        (N,) losses in nats, float32, or float64 if the inputs are float64; take their mean to train.

    Raises:
        ValueError: The shapes do not fit each other, or `temperature` is not above 0.
        NoPositivesError: N is 0.
    """
    require_temperature(temperature)
    require_pairs(query, key)
    if queue.ndim != 2 or queue.shape[1] != query.shape[1]:
        raise ValueError(f"queue of shape {tuple(queue.shape)}: must be (K, {query.shape[1]}), as wide as the queries")
    with torch.autocast(query.device.type, enabled=False):  # autocast would take the product in half precision
        query, key, queue = (F.normalize(at_least_fp32(rows), dim=1) for rows in (query, key, queue))
        positive = (query * key).sum(dim=1, keepdim=True)  # (N, 1)
        logits = torch.cat([positive, query @ queue.T], dim=1).div_(temperature)  # (N, 1+K); in place, it may be large
    return torch.logsumexp(logits, dim=1) - logits[:, 0]
