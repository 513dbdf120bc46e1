"""Grad-CAM noise against Eq. 3 to 5 of Synthesized Pairs, one number at a time."""

import pytest
import torch
from torch import Tensor, nn

from fgssl.losses import info_nce_per_row
from fgssl.noises.grad_cam import flat_images, grad_cam_deviation, grad_cam_scores, normalized_scores


def slow_deviation(features: Tensor, gradient: Tensor, sign: int, sigma: float) -> list[list[float]]:
    deviations = []
    for f, g in zip(features.tolist(), gradient.tolist(), strict=True):
        scores = [max(0.0, sign * slope * value) for slope, value in zip(g, f, strict=True)]  # Eq. 3
        low, high = min(scores), max(scores)
        relative = [(score - low) / (high - low) if high > low else 1.0 for score in scores]  # Eq. 4
        deviations.append([sigma * (1 - value) for value in relative])  # Eq. 5
    return deviations


@pytest.mark.parametrize("sign", [-1, 1])
def test_equals_the_slow_loop(sign: int) -> None:
    features, gradient = torch.randn(6, 9, dtype=torch.float64), torch.randn(6, 9, dtype=torch.float64)
    features[3] = 0.0  # an image without any score
    found = grad_cam_deviation(grad_cam_scores(features, gradient, sign), 0.7)
    expected = slow_deviation(features, gradient, sign, 0.7)
    assert found.flatten().tolist() == pytest.approx([value for row in expected for value in row], abs=1e-15)


def test_the_most_important_dimension_gets_no_noise_and_the_least_all() -> None:
    scores = grad_cam_scores(torch.rand(5, 8) + 0.1, -torch.rand(5, 8), sign=-1)
    deviation = grad_cam_deviation(scores, 2.0)
    each = torch.arange(5)
    assert deviation[each, scores.argmax(dim=1)].tolist() == [0.0] * 5
    assert deviation[each, scores.argmin(dim=1)].tolist() == pytest.approx([2.0] * 5)


def test_a_flat_image_gets_no_noise_and_is_counted() -> None:
    scores = torch.rand(4, 6)
    scores[1], scores[2] = 0.0, 0.3
    assert flat_images(scores).item() == 2
    assert normalized_scores(scores)[1:3].eq(1).all()
    assert grad_cam_deviation(scores, 0.5)[1:3].eq(0).all()
    assert grad_cam_deviation(scores, 0.5).isfinite().all()


def test_both_signs_share_out_the_dimensions_of_a_scale_invariant_head() -> None:
    """sum_d f_d dL/df_d = 0 (Euler): what one sign scores the other does not, and both score the same in sum."""
    head = nn.Linear(10, 4, bias=False).double()
    features = torch.rand(7, 10, dtype=torch.float64, requires_grad=True)
    key, queue = torch.randn(7, 4, dtype=torch.float64), torch.randn(20, 4, dtype=torch.float64)
    loss = info_nce_per_row(head(features), key, queue, 0.2).sum()
    (gradient,) = torch.autograd.grad(loss, features)
    lowering, raising = (grad_cam_scores(features.detach(), gradient, sign) for sign in (-1, 1))
    torch.testing.assert_close((features * gradient).sum(dim=1), torch.zeros(7).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(lowering.sum(dim=1), raising.sum(dim=1), atol=1e-12, rtol=0)
    assert ((lowering > 0) & (raising > 0)).sum() == 0
    assert ((lowering > 0) | (raising > 0)).all()
