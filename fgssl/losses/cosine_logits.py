"""The logits of in-batch softmaxes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_temperature


def cosine_logits(embeddings: Tensor, temperature: float) -> Tensor:
    """Return cosine / temperature of all pairs of embeddings (M, D), which are normalized here: (M, M), fp32 or finer.

    Raises:
        ValueError: another shape, which is named, or a temperature that is not above 0.
    """
    require_temperature(temperature)
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings of shape {tuple(embeddings.shape)}: must be (M, D), one row an embedding")
    with torch.autocast(embeddings.device.type, enabled=False):  # which would take the product in half precision
        rows = F.normalize(at_least_fp32(embeddings), dim=1)  # (M, D)
        return rows @ rows.T / temperature
