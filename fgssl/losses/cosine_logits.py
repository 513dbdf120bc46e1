"""Logits of in-batch softmaxes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_temperature


def cosine_logits(embeddings: Tensor, temperature: float) -> Tensor:
    """Return the cosine similarity of every pair of embeddings, divided by the temperature.

    Args:
        embeddings: (M, D), any floating-point type; normalized here.
        temperature: Divisor of the cosines, above 0.

    Returns:
        (M, M) logits in float32, or float64 if the embeddings are float64.

    Raises:
        ValueError: `embeddings` is not a matrix, or `temperature` is not above 0.
    """
    require_temperature(temperature)
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings of shape {tuple(embeddings.shape)}: must be (M, D), one embedding per row")
    with torch.autocast(embeddings.device.type, enabled=False):  # autocast would take the product in half precision
        rows = F.normalize(at_least_fp32(embeddings), dim=1)  # (M, D)
        return rows @ rows.T / temperature
