"""SupCon, the supervised contrastive loss L_out (Khosla et al. 2020, arXiv:2004.11362, Eq. 2)."""

from torch import Tensor

from fgssl.losses.shapes import require_labels
from fgssl.losses.without_self import equal_labels, log_softmax_without_self, pair_targets


def supcon(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return -mean_i [mean of log p_ij over the positives j of anchor i] (Khosla et al. 2020, SupCon, Eq. 2, L_out).

    p_ij is the softmax of cosine / temperature over all rows except i. The positives of an anchor are the other rows of
    its label. The outer mean is over the anchors that have a positive.

    Args:
        embeddings: (M, D), any floating-point type; l2-normalized here. Each view of an image is a row.
        labels: (M,) integer classes.
        temperature: Divisor of the cosines, above 0.

    Returns:
        Scalar in nats, float32, or float64 if the embeddings are float64.

    Raises:
        ValueError: The shapes do not fit each other, or `temperature` is not above 0.
        NoPositivesError: No two rows share a label. On a GPU the loss is NaN instead, so that the host need not wait.
    """
    log_p = log_softmax_without_self(embeddings, temperature)  # (M, M)
    require_labels(labels, len(log_p))
    targets = pair_targets(equal_labels(labels).to(log_p.dtype), "a label")
    return -(targets * log_p).sum()
