"""HiMulConE, the loss of HMLC (Zhang et al. 2022, *Use All The Labels*, CVPR, arXiv:2204.13207)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fgssl.losses.shapes import require_labels
from fgssl.losses.without_self import equal_labels, log_softmax_without_self, pair_targets


def himulcone(embeddings: Tensor, labels: Tensor, level_weights: Sequence[float], temperature: float) -> Tensor:
    """Return the mean over levels of weight times SupCon, which at no level is below that of a finer one (HMLC).

    With C_0 = SupCon_0 and C_l = max(SupCon_l, C_{l-1}) it is sum_l w_l C_l / L. The constraint follows the authors'
    code, which compares the losses of whole levels; the paper writes it for pairs. Their code also thins the batch out
    to one row per class after each level; here every level takes all rows, as in the paper. It divides by L + 1, as it
    counts the level of single images, which has no loss; here the divisor is L, as in the paper.

    Args:
        embeddings: (M, D), any floating-point type; l2-normalized here. Each view of an image is a row.
        labels: (M, L) integer classes, finest level first; levels should be nested.
        level_weights: L weights. Those of the authors' code are 2^(1/l), l = 1 for the finest: 2, 1.414, 1.26, ...
        temperature: Divisor of the cosines, above 0.

    Returns:
        Scalar in nats, float32, or float64 if the embeddings are float64.

    Raises:
        ValueError: The shapes do not fit each other, or `temperature` is not above 0.
        NoPositivesError: At one of the levels no two rows share a label. On a GPU the loss is NaN instead, so that the
            host need not wait.
    """
    require_labels(labels, len(embeddings), len(level_weights))
    log_p = log_softmax_without_self(embeddings, temperature)  # (M, M)
    constrained = list[Tensor]()
    for level, classes in enumerate(labels.T):
        targets = pair_targets(equal_labels(classes).to(log_p.dtype), f"a label at level {level} (0 is the finest)")
        own = -(targets * log_p).sum()
        constrained.append(torch.maximum(own, constrained[-1]) if constrained else own)
    terms = [weight * loss for weight, loss in zip(level_weights, constrained, strict=True)]
    return torch.stack(terms).mean()
