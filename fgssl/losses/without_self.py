"""The softmax over all other rows of a batch, and the pairs among them that are positive."""

import torch
from torch import Tensor

from fgssl.errors import NoPositivesError
from fgssl.losses.cosine_logits import cosine_logits


def log_softmax_without_self(embeddings: Tensor, temperature: float) -> Tensor:
    """Return log p_ij of embeddings (M, D) over all j != i, from `cosine_logits`; (M, M), in fp32 or finer.

    The diagonal, which has no probability, is 0, so that a target of 0 there adds nothing.
    """
    logits = cosine_logits(embeddings, temperature)  # (M, M)
    self_pairs = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    return logits.masked_fill(self_pairs, -torch.inf).log_softmax(dim=1).masked_fill(self_pairs, 0)


def equal_labels(labels: Tensor) -> Tensor:
    """Return which pairs of labels (M,) are the same, a row and itself left out; (M, M) bool."""
    return (labels[:, None] == labels).fill_diagonal_(False)


def pair_targets(weights: Tensor, what: str) -> Tensor:
    """Return targets of a cross-entropy over all pairs, from the pairs' weights >= 0: both (M, M), targets of sum 1.

    Each anchor's weights are divided by their sum, and by the number of anchors that have any: the others leave the
    mean.

    Raises:
        NoPositivesError: no anchor has any; the message says that no two rows share `what`. On a GPU, where the host
            would wait for the answer, all targets are NaN instead.
    """
    totals = weights.sum(dim=1, keepdim=True)  # (M, 1)
    anchors = totals > 0
    if anchors.device.type == "cpu" and not anchors.any():
        raise NoPositivesError(
            f"no two of the batch's {len(weights)} rows share {what}, so no anchor has a positive: give at least two "
            "views of each image, or draw several images of a class (training.images_per_class: 2 or more)"
        )
    return weights / totals.where(anchors, 1) / anchors.sum()
