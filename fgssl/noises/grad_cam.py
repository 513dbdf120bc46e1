"""Grad-CAM noise: large in dimensions on which the loss does not depend (*Synthesized Pairs*, Eq. 3 to 5)."""

from torch import Tensor


def grad_cam_scores(features: Tensor, gradient: Tensor, sign: int) -> Tensor:
    """Return the scores G = ReLU(a * f) of Eq. 3, (N, D), where a = sign * dL/df.

    `gradient` (N, D) is dL/df of each image's own contrastive loss. With sign -1, dimensions score that lower the loss.
    For a scale-invariant head sum_d f_d dL/df_d = 0, so the other sign scores the complementary dimensions.
    """
    return (sign * gradient * features).clamp_min(0)


def normalized_scores(scores: Tensor) -> Tensor:
    """Return the scores scaled per image to [0, 1] by min-max, Eq. 4, (N, D).

    An image whose scores are all equal gets 1 everywhere, so that it gets no noise.
    """
    low, high = scores.aminmax(dim=1, keepdim=True)  # (N, 1) each
    flat = high == low
    return ((scores - low) / (high - low).masked_fill(flat, 1)).masked_fill(flat, 1)


def flat_images(scores: Tensor) -> Tensor:
    """Return the number of images whose scores are all equal, a scalar."""
    low, high = scores.aminmax(dim=1)
    return (low == high).sum()


def grad_cam_deviation(scores: Tensor, sigma: float | Tensor) -> Tensor:
    """Return the standard deviation sigma (1 - G~) of each dimension's noise, Eq. 5, (N, D)."""
    return sigma * (1 - normalized_scores(scores))
