"""Noise that *Synthesized Pairs* adds to a feature vector (Sec. 3.3 to 3.5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fgssl.noises.grad_cam import flat_images, grad_cam_deviation, grad_cam_scores
from fgssl.noises.low_variance import low_variance_deviation, low_variance_dimensions, spread
from fgssl.noises.normals import normal
from fgssl.registries import load
from fgssl.settings import noise
from fgssl.settings.noise import VARIANTS, NoiseSettings


@dataclass(frozen=True)
class Noise:
    """Noise of a batch, and its measures."""

    delta: Tensor
    """Noise (N, D) to be added to the features."""
    measures: dict[str, Tensor]
    """Values to log, by name, (N,) each."""


@dataclass(frozen=True)
class Deviations:
    """Standard deviations of the paper's two noises, of which every variant is made."""

    grad_cam: Tensor
    """Standard deviations (N, D) of Eq. 5."""
    low_variance: Tensor
    """Standard deviations (D,) of Eq. 6."""


def by_grad_cam(deviations: Deviations) -> Tensor:
    """Return the deviations (N, D) of the Grad-CAM noise."""
    return deviations.grad_cam


def by_low_variance(deviations: Deviations) -> Tensor:
    """Return the deviations (D,) of the low-variance noise."""
    return deviations.low_variance


def alike(deviations: Deviations) -> Tensor:
    """Return one deviation for all dimensions of an image, (N, 1), with the mean square of both noises together.

    It is a baseline: a comparison with it shows the effect of where noise is added, not of how much.
    """
    return (deviations.grad_cam**2 + deviations.low_variance**2).mean(dim=1, keepdim=True).sqrt()


class Perturbation:
    """Noise of one variant, as a pure function of seed, step and image."""

    def __init__(self, settings: NoiseSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        place = f"{noise.__file__}: VARIANTS[{settings.variant!r}]"
        self._terms = {stream: load(path, place) for stream, path in VARIANTS[settings.variant].items()}

    def __call__(self, features: Tensor, gradient: Tensor, bank: Tensor, step: int, indices: Tensor) -> Noise:
        """Return the noise of a batch.

        Args:
            features: (N, D), detached.
            gradient: (N, D), gradient of each image's contrastive loss by its feature, detached.
            bank: (K, D), the filled rows of the feature bank.
            step: Number of the step.
            indices: (N,) dataset rows.
        """
        settings = self.settings
        feature_std = bank.std(dim=0, correction=0).mean()
        unit = feature_std if settings.unit == "feature_std" else torch.ones_like(feature_std)

        scores = grad_cam_scores(features, gradient, settings.gradient_sign)
        spreads = spread(bank, settings.statistic, settings.normalization)
        low = low_variance_dimensions(spreads, settings.threshold)
        deviations = Deviations(
            grad_cam=grad_cam_deviation(scores, settings.sigma_grad_cam * unit),
            low_variance=low_variance_deviation(spreads, low, settings.sigma_low_variance * unit),
        )
        delta = torch.zeros_like(features)
        for stream, deviation in self._terms.items():
            normals = normal(self.seed, f"noise/{stream}", step, rows=indices, columns=features.shape[1])
            delta = delta + deviation(deviations) * normals.to(features.dtype)

        def root_mean_square(values: Tensor) -> Tensor:
            # In units of the features' standard deviation.
            return values.pow(2).mean(dim=1).sqrt() / feature_std.clamp_min(1e-12)

        measures = {
            "noise_rms": root_mean_square(delta),
            "noise_grad_cam_rms": root_mean_square(deviations.grad_cam),
            "noise_low_variance_rms": root_mean_square(deviations.low_variance.expand_as(features)),
            "noise_low_variance_share": low.float().mean().expand(len(features)),
            "noise_grad_cam_flat_share": (flat_images(scores) / len(features)).expand(len(features)),
        }
        return Noise(delta, measures)
