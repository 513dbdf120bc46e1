"""SupCon, the supervised contrastive loss L_out (Khosla et al. 2020, arXiv:2004.11362, Eq. 2)."""

from torch import Tensor

from fgssl.losses.shapes import require_labels
from fgssl.losses.without_self import equal_labels, log_softmax_without_self, pair_targets


def supcon(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return -mean_i [mean of log p_ij over the positives j of anchor i]; a scalar in fp32 or finer.

    embeddings (M, D) are l2-normalized here; positives are the other rows of the same label, labels (M,). p_ij is the
    softmax over all rows but i. Anchors without a positive leave the mean.

    Raises:
        ValueError: shapes that do not fit, a temperature that is not above 0; `NoPositivesError`, if no anchor has a
            positive.
    """
    log_p = log_softmax_without_self(embeddings, temperature)  # (M, M)
    require_labels(labels, len(log_p))
    targets = pair_targets(equal_labels(labels).to(log_p.dtype), "a label")
    return -(targets * log_p).sum()
