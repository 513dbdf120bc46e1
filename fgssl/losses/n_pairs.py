"""n-pairs over cosine similarities: `npairs_loss` of TensorFlow Addons, as the course (Guan) uses it."""

import torch.nn.functional as F
from torch import Tensor

from fgssl.errors import NoPositivesError
from fgssl.losses.cosine_logits import cosine_logits
from fgssl.losses.shapes import require_labels


def n_pairs(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy between the softmax over all rows and the rows that share the anchor's label.

    Both the softmax of cosine / temperature and the evenly spread target include the anchor itself. Unlike in SupCon,
    every anchor therefore has a positive. The formula is `npairs_loss` of TensorFlow Addons on cosine similarities, as
    the course (Guan) uses it.

    Args:
        embeddings: (M, D), any floating-point type; l2-normalized here.
        labels: (M,) integer classes.
        temperature: Divisor of the cosines, above 0.

    Returns:
        Scalar in nats, float32, or float64 if the embeddings are float64.

    Raises:
        ValueError: The shapes do not fit each other, or `temperature` is not above 0.
        NoPositivesError: M is 0.
    """
    logits = cosine_logits(embeddings, temperature)  # (M, M)
    require_labels(labels, len(logits))
    if not len(logits):
        raise NoPositivesError("an empty batch has no positive: give at least one row")
    same = (labels[:, None] == labels).to(logits.dtype)  # (M, M)
    return F.cross_entropy(logits, same / same.sum(dim=1, keepdim=True))
