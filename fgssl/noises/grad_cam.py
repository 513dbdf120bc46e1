"""Which dimensions of a feature vector the contrastive loss rests on (*Synthesized Pairs*, Eq. 3 to 5)."""

from torch import Tensor


def grad_cam_scores(features: Tensor, gradient: Tensor, sign: int) -> Tensor:
    """Return G = ReLU(a * f), Eq. 3, element by element: (N, D).

    `gradient` (N, D) is dL/df of each image's own contrastive loss. sign -1 takes a = -dL/df: dimensions that lower
    the loss score. A scale-invariant head has sum_d f_d dL/df_d = 0, so the other sign picks complementary dimensions.
    """
    return (sign * gradient * features).clamp_min(0)


def normalized_scores(scores: Tensor) -> Tensor:
    """Return the per-image min-max, Eq. 4: (N, D) in [0, 1]. An image whose scores are all equal gets 1: no noise."""
    low, high = scores.aminmax(dim=1, keepdim=True)  # (N, 1) each
    flat = high == low
    return ((scores - low) / (high - low).masked_fill(flat, 1)).masked_fill(flat, 1)


def flat_images(scores: Tensor) -> Tensor:
    """Return how many images have equal scores everywhere; a scalar."""
    low, high = scores.aminmax(dim=1)
    return (low == high).sum()


def grad_cam_deviation(scores: Tensor, sigma: float | Tensor) -> Tensor:
    """Return the standard deviation of each dimension's noise, sigma (1 - G~), Eq. 5: (N, D)."""
    return sigma * (1 - normalized_scores(scores))
