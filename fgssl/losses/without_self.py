"""In-batch softmax over all other rows, and its targets."""

import torch
from torch import Tensor

from fgssl.errors import NoPositivesError
from fgssl.losses.cosine_logits import cosine_logits


def log_softmax_without_self(embeddings: Tensor, temperature: float, ignored: Tensor | None = None) -> Tensor:
    """Return log p_ij, (M, M), of the softmax of `cosine_logits` of embeddings (M, D) over all j != i.

    Pairs in the mask `ignored` (M, M) are left out too. They and the diagonal have no probability. They are 0, so that
    a target of 0 there adds nothing.
    """
    logits = cosine_logits(embeddings, temperature)  # (M, M)
    left_out = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    if ignored is not None:
        left_out = left_out | ignored
    return logits.masked_fill(left_out, -torch.inf).log_softmax(dim=1).masked_fill(left_out, 0)


def equal_labels(labels: Tensor) -> Tensor:
    """Return a mask (M, M) of the pairs of distinct rows whose labels (M,) are equal."""
    return (labels[:, None] == labels).fill_diagonal_(False)


def pair_targets(weights: Tensor, what: str) -> Tensor:
    """Return targets of a cross-entropy over all pairs, (M, M) with sum 1, from the pairs' weights >= 0, (M, M).

    Each anchor's weights are divided by their sum and by the number of anchors with a positive weight, so that the
    other anchors leave the mean.

    Raises:
        NoPositivesError: No anchor has a positive weight. `what` names in the message what rows would have to share. On
            a GPU all targets are NaN instead, since the host would have to wait for the answer.
    """
    totals = weights.sum(dim=1, keepdim=True)  # (M, 1)
    anchors = totals > 0
    if anchors.device.type == "cpu" and not anchors.any():
        raise NoPositivesError(
            f"no two of the batch's {len(weights)} rows share {what}, so no anchor has a positive: give at least two "
            "views of each image, or draw several images of a class (training.images_per_class: 2 or more)"
        )
    return weights / totals.where(anchors, 1) / anchors.sum()
