"""Noise that is added to features: its size, and the values on which it depends."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fgssl.noises.grad_cam import grad_cam_deviation, grad_cam_scores
from fgssl.noises.low_variance import low_variance_deviation, spread
from fgssl.noises.perturbation import Perturbation
from fgssl.settings.noise import NoiseSettings, QuantileThreshold

DRAWS, WIDTH = 20_000, 12


def noise(**values: Any) -> NoiseSettings:
    return NoiseSettings(**values)


@pytest.fixture
def bank() -> Tensor:
    random = torch.Generator().manual_seed(1)
    values = torch.randn(1024, WIDTH, generator=random)
    return (1 + torch.linspace(0.1, 4, WIDTH) * values).clamp_min(0)


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """Return features and gradients of one image, repeated for each draw."""
    random = torch.Generator().manual_seed(2)
    feature, gradient = torch.rand(1, WIDTH, generator=random), torch.randn(1, WIDTH, generator=random)
    return feature.expand(DRAWS, -1), gradient.expand(DRAWS, -1)


def deviations(settings: NoiseSettings, images: tuple[Tensor, Tensor], bank: Tensor) -> tuple[Tensor, Tensor]:
    """Return the deviations of Eq. 5 and 6 for one image, (D,) each."""
    unit = bank.std(dim=0, correction=0).mean().item() if settings.unit == "feature_std" else 1.0
    scores = grad_cam_scores(images[0][:1], images[1][:1], settings.gradient_sign)
    spreads = spread(bank, settings.statistic, settings.normalization)
    assert isinstance(settings.threshold, float)
    low = spreads < settings.threshold
    assert 0 < low.sum() < WIDTH
    return (
        grad_cam_deviation(scores, settings.sigma_grad_cam * unit)[0],
        low_variance_deviation(spreads, low, settings.sigma_low_variance * unit),
    )


@pytest.mark.parametrize("unit", ["feature_std", "absolute"])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("variant", ["both", "grad_cam", "low_variance", "random"])
def test_mean_and_standard_deviation_of_every_dimension(
    variant: str, sign: int, unit: str, bank: Tensor, images: tuple[Tensor, Tensor]
) -> None:
    settings = noise(variant=variant, gradient_sign=sign, unit=unit, sigma_grad_cam=0.25, sigma_low_variance=0.75)
    by_grad_cam, by_low_variance = deviations(settings, images, bank)
    expected = {
        "both": (by_grad_cam**2 + by_low_variance**2).sqrt(),
        "grad_cam": by_grad_cam,
        "low_variance": by_low_variance,
        "random": (by_grad_cam**2 + by_low_variance**2).mean().sqrt().expand(WIDTH),
    }[variant]
    delta = Perturbation(settings, seed=0)(*images, bank, 3, torch.arange(DRAWS)).delta
    # Tolerances: five standard errors of a mean and of a standard deviation over the draws.
    torch.testing.assert_close(delta.std(dim=0), expected, rtol=5 / (2 * DRAWS) ** 0.5, atol=0)
    assert (delta.mean(dim=0).abs() <= 5 * expected / DRAWS**0.5).all()


def test_random_noise_has_the_mean_square_of_both_image_by_image(bank: Tensor) -> None:
    """Exactly matched, not only over the batch: the deviations' mean squares are equal."""
    features, gradient = torch.rand(3, WIDTH), torch.randn(3, WIDTH)
    gradient[0], features[0] = -1.0, torch.tensor([0.0, *[1.0] * (WIDTH - 1)])  # noise on one dimension alone
    features, gradient = features.repeat(DRAWS, 1), gradient.repeat(DRAWS, 1)
    squares = {}
    for variant in ("both", "random"):
        perturbation = Perturbation(noise(variant=variant), seed=0)
        delta = perturbation(features, gradient, bank, 0, torch.arange(3 * DRAWS)).delta
        squares[variant] = delta.pow(2).mean(dim=1).view(DRAWS, 3).mean(dim=0)  # (3,)
    torch.testing.assert_close(squares["random"], squares["both"], rtol=0.03, atol=0)
    assert squares["both"].max() / squares["both"].min() > 1.05  # images do differ


@pytest.mark.parametrize("variant", ["both", "grad_cam", "low_variance", "random"])
def test_noise_is_a_function_of_seed_step_and_image_alone(variant: str, bank: Tensor) -> None:
    random = torch.Generator().manual_seed(4)
    features, gradient = torch.rand(9, WIDTH, generator=random), torch.randn(9, WIDTH, generator=random)
    indices = torch.tensor([5, 100, 7, 40, 41, 42, 0, 9, 3])
    perturbation = Perturbation(noise(variant=variant), seed=0)

    def delta(rows: Tensor, step: int = 8, seed: int = 0) -> Tensor:
        other = perturbation if seed == 0 else Perturbation(perturbation.settings, seed)
        return other(features[rows], gradient[rows], bank, step, indices[rows]).delta

    whole = delta(torch.arange(9))
    backwards = torch.arange(9).flip(0)
    assert torch.equal(delta(backwards), whole[backwards])
    assert torch.equal(torch.cat([delta(rows) for rows in torch.arange(9).split(2)]), whole)
    for other in (delta(torch.arange(9), step=9), delta(torch.arange(9), seed=1)):
        assert (other[whole != 0] != whole[whole != 0]).all()


def test_the_two_noises_are_drawn_apart(bank: Tensor, images: tuple[Tensor, Tensor]) -> None:
    """`both` is the sum of the two noises alone, whose draws are uncorrelated."""

    def delta(variant: str) -> Tensor:
        settings = noise(variant=variant)
        return Perturbation(settings, seed=0)(*images, bank, 0, torch.arange(DRAWS)).delta

    by_grad_cam, by_low_variance = delta("grad_cam"), delta("low_variance")
    torch.testing.assert_close(delta("both"), by_grad_cam + by_low_variance)
    noisy = (by_grad_cam.std(dim=0) > 0) & (by_low_variance.std(dim=0) > 0)
    for dimension in torch.nonzero(noisy)[:, 0]:
        correlation = torch.corrcoef(torch.stack([by_grad_cam[:, dimension], by_low_variance[:, dimension]]))[0, 1]
        assert abs(correlation) < 5 / DRAWS**0.5
    assert noisy.any()


def test_measures_are_the_noise_in_units_of_the_features(bank: Tensor, images: tuple[Tensor, Tensor]) -> None:
    settings = noise(variant="both")
    by_grad_cam, by_low_variance = deviations(settings, images, bank)
    drawn = Perturbation(settings, seed=0)(*images, bank, 0, torch.arange(DRAWS))
    unit = bank.std(dim=0, correction=0).mean()
    measures = {name: values.mean().item() for name, values in drawn.measures.items()}
    assert {values.shape for values in drawn.measures.values()} == {(DRAWS,)}
    assert measures["noise_grad_cam_rms"] == pytest.approx((by_grad_cam.pow(2).mean().sqrt() / unit).item(), rel=1e-4)
    assert measures["noise_low_variance_rms"] == pytest.approx(
        (by_low_variance.pow(2).mean().sqrt() / unit).item(), rel=1e-4
    )
    in_square = drawn.measures["noise_rms"].pow(2).mean().item()
    assert in_square == pytest.approx(((by_grad_cam**2 + by_low_variance**2).mean() / unit**2).item(), rel=0.02)
    assert measures["noise_low_variance_share"] == pytest.approx((by_low_variance > 0).float().mean().item())
    assert measures["noise_grad_cam_flat_share"] == 0.0


def test_flat_images_are_counted_as_a_share_of_the_batch(bank: Tensor) -> None:
    gradient = torch.randn(8, WIDTH)
    gradient[2:4] = 0.0  # the head does not look at these two images
    drawn = Perturbation(noise(variant="grad_cam"), seed=0)(torch.rand(8, WIDTH), gradient, bank, 0, torch.arange(8))
    assert drawn.measures["noise_grad_cam_flat_share"].mean().item() == pytest.approx(0.25)
    assert drawn.delta[2:4].eq(0).all()


def test_sigma_zero_and_threshold_zero_are_the_noise_left_out(bank: Tensor) -> None:
    features, gradient, rows = torch.rand(4, WIDTH), torch.randn(4, WIDTH), torch.arange(4)

    def delta(settings: NoiseSettings) -> Tensor:
        return Perturbation(settings, seed=0)(features, gradient, bank, 0, rows).delta

    only_grad_cam = delta(noise(variant="grad_cam"))
    assert torch.equal(delta(noise(threshold=0.0)), only_grad_cam)  # Table 7: tau = 0 is "Ours - Grad-CAM"
    assert torch.equal(delta(noise(sigma_low_variance=0.0)), only_grad_cam)
    assert delta(noise(sigma_grad_cam=0.0, sigma_low_variance=0.0)).eq(0).all()


def test_a_quantile_takes_that_share_of_the_dimensions(bank: Tensor) -> None:
    settings = noise(variant="low_variance", threshold=QuantileThreshold(quantile=0.5))
    drawn = Perturbation(settings, seed=0)(torch.rand(4, WIDTH), torch.randn(4, WIDTH), bank, 0, torch.arange(4))
    assert drawn.measures["noise_low_variance_share"].mean().item() == 0.5
    assert (drawn.delta != 0).sum(dim=1).tolist() == [WIDTH // 2] * 4
