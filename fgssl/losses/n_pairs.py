"""n-pairs over cosine similarities: `npairs_loss` of TensorFlow Addons, as Guan's course uses it."""

import torch.nn.functional as F
from torch import Tensor

from fgssl.errors import NoPositivesError
from fgssl.losses.cosine_logits import cosine_logits
from fgssl.losses.shapes import require_labels


def n_pairs(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of the softmax over all M rows, anchor included; a scalar in fp32 or finer.

    embeddings (M, D) are l2-normalized here, the logits are cosine / temperature. An anchor's target is spread evenly
    over the rows of its label, labels (M,), again itself included: unlike in SupCon, every anchor has a positive.

    Raises:
        ValueError: shapes that do not fit, a temperature that is not above 0; `NoPositivesError`, if there are no rows.
    """
    logits = cosine_logits(embeddings, temperature)  # (M, M)
    require_labels(labels, len(logits))
    if not len(logits):
        raise NoPositivesError("an empty batch has no positive: give at least one row")
    same = (labels[:, None] == labels).to(logits.dtype)  # (M, M)
    return F.cross_entropy(logits, same / same.sum(dim=1, keepdim=True))
