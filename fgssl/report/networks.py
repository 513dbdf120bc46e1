"""Networks of finished runs on a few test images, for figures: Grad-CAM, the gates of the noise, reconstructions.

They run on the CPU in evaluation mode. No other module of the report imports torch. A finished run keeps neither heads
nor queues, so the cosine between the features of an image and of augmented views of it stands for the contrastive loss
of Eq. 3 in *Synthesized Pairs*.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fgssl.data.loader import Images, training_batches
from fgssl.decoders.build import build_decoder
from fgssl.encoders.build import build_encoder, feature_width
from fgssl.encoders.feature_maps import as_map, grad_cam
from fgssl.encoders.weights import load_weights
from fgssl.errors import DataError
from fgssl.noises.grad_cam import grad_cam_scores, normalized_scores
from fgssl.noises.low_variance import REFERENCE_ROWS, low_variance_deviation, low_variance_dimensions, spread
from fgssl.noises.perturbation import Perturbation
from fgssl.report.figures.records import Embedding, NotDrawnError, evenly_spaced
from fgssl.settings.config import Config
from fgssl.views.crops import resized
from fgssl.views.maker import ViewMaker
from fgssl.views.normalization import by_channel

VIEWS = 4
"""Augmented views of each image, over whose cosines the mean is taken."""
FEWEST_POSITIONS = 4
"""Smallest side of a feature map whose attention is shown; coarser ones would color whole quarters of an image."""


class Chosen:
    """Images in some rows of a split, as the loader reads them."""

    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self.labels = images.labels[rows]
        self.source_ids: Sequence[str] = [images.source_ids[int(row)] for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """Return the upright RGB image (H, W, 3) of one of the rows; raise a `DataError` if it is damaged."""
        try:
            return self._images.pixels(int(self._rows[row]))
        except (OSError, ValueError) as error:
            raise DataError(
                f"image {self.source_ids[row]} cannot be decoded ({error}): repair it, pack again"
            ) from None

    def resized(self, size: int) -> NDArray[np.uint8]:
        """Return all images, resized: (n, size, size, 3)."""
        return np.stack([resized(self.pixels(row), size) for row in range(len(self))])


@dataclass(frozen=True)
class Gates:
    """Parts of the noise that decide which dimensions it changes."""

    grad_cam: NDArray[np.float32]
    """1 - G~ of Eq. 5, (n, D)."""
    spread: NDArray[np.float32]
    """Spread v (D,) of each dimension over the bank."""
    low_variance: NDArray[np.float32]
    """1 - v~ of Eq. 6, (D,), and 0 where the spread is not below the threshold."""


@dataclass(frozen=True)
class Reconstructions:
    """Images that a decoder makes of features, (n, S, S, 3) each, from 0 to 1."""

    plain: NDArray[np.float32]
    perturbed: NDArray[np.float32]


def attention(one: Embedding, chosen: Chosen) -> NDArray[np.float32]:
    """Return Grad-CAM maps (n, S, S) from 0 to 1 (Selvaraju et al. 2017) of the similarity to augmented views.

    They are those of the last feature map of at least 4x4 positions on which the similarity depends, or of the finest
    one. The map of an image whose scores are all 0 is 0.
    """
    config, encoder = one.config, _encoder(one)
    views = _features_of_views(config, encoder, chosen)
    maps: list[Tensor] = []
    for module in _of_feature_maps(encoder):
        module.register_forward_hook(lambda module, given, output: maps.append(output))
    features = encoder(_originals(config, chosen).requires_grad_())
    gradients = torch.autograd.grad(_similarity(features, views).sum(), maps, allow_unused=True, materialize_grads=True)
    pairs = zip(maps, gradients, strict=True)
    found, gradient = _last_fine([(as_map(one.detach(), encoder), as_map(by, encoder)) for one, by in pairs])
    scores = grad_cam(found, gradient)  # (n, h, w)
    scaled = normalized_scores(scores.flatten(1)).view_as(scores) * (scores > 0)
    size = (config.views.image_size, config.views.image_size)
    smooth: Tensor = F.interpolate(scaled[:, None], size, mode="bilinear")[:, 0]
    return smooth.numpy()


def _last_fine(maps: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the last feature map (n, C, h, w) with a gradient and enough positions, or the one with the most."""
    used = [one for one in maps if one[1].any()]
    if not used:
        raise NotDrawnError("the similarity to augmented views depends on none of the encoder's feature maps")
    most = min(FEWEST_POSITIONS, max(min(one[0].shape[2:]) for one in used))
    return next(one for one in reversed(used) if min(one[0].shape[2:]) >= most)


def gates(one: Embedding, chosen: Chosen) -> Gates:
    """Return the gates of a run's noise."""
    noise = one.config.method.added_noise
    assert noise is not None
    features, gradient = _features_and_gradient(one.config, _encoder(one), chosen)
    found = spread(_bank(one), noise.statistic, noise.normalization)
    low = low_variance_dimensions(found, noise.threshold)
    scores = grad_cam_scores(features, gradient, noise.gradient_sign)
    return Gates(
        grad_cam=(1 - normalized_scores(scores)).numpy(),
        spread=found.numpy(),
        low_variance=low_variance_deviation(found, low, 1.0).numpy(),
    )


def reconstructions(one: Embedding, chosen: Chosen) -> Reconstructions:
    """Return what the decoder of a run makes of features, and of their copies with its noise of step 0."""
    config, encoder, noise = one.config, _encoder(one), one.config.method.added_noise
    assert config.decoder is not None
    assert noise is not None
    group = config.encoder.batch_norm_group_size
    decoder = build_decoder(config.decoder, feature_width(encoder), config.views.image_size, group)
    load_weights(decoder, one.folder.decoder)
    features, gradient = _features_and_gradient(config, encoder, chosen)
    perturbation, rows = Perturbation(noise, config.seed), torch.arange(len(chosen))
    delta = perturbation(features, gradient, _bank(one), step=0, indices=rows).delta
    return Reconstructions(*(_images(config, decoder.eval(), given) for given in (features, features + delta)))


@torch.no_grad()
def _images(config: Config, decoder: nn.Module, features: Tensor) -> NDArray[np.float32]:
    mean, std = (by_channel(values, features.device) for values in (config.views.mean, config.views.std))
    pixels: Tensor = decoder(features) * std + mean
    return pixels.clamp(0, 1).permute(0, 2, 3, 1).numpy()


def _encoder(one: Embedding) -> nn.Module:
    encoder = build_encoder(one.config.encoder, one.config.views.image_size)
    load_weights(encoder, one.folder.encoder)
    return encoder.eval()


def _bank(one: Embedding) -> Tensor:
    """Return features (K, D) of training images in place of the bank, which a finished run does not keep."""
    features = one.features("train")
    return torch.from_numpy(features[evenly_spaced(len(features), REFERENCE_ROWS)]).float()


def _originals(config: Config, chosen: Chosen) -> Tensor:
    size = config.views.image_size
    return ViewMaker(config.views, 0, config.seed, len(chosen)).original(torch.from_numpy(chosen.resized(size)))


def _features_and_gradient(config: Config, encoder: nn.Module, chosen: Chosen) -> tuple[Tensor, Tensor]:
    """Return the features (n, D) of the resized images, and the gradient by them of minus the mean cosine."""
    views = _features_of_views(config, encoder, chosen)
    with torch.no_grad():
        features = encoder(_originals(config, chosen))
    features.requires_grad_()
    (gradient,) = torch.autograd.grad(-_cosine(features, views).sum(), features)
    return features.detach(), gradient


def _cosine(features: Tensor, views: Sequence[Tensor]) -> Tensor:
    """Return the mean cosine (n,) of each image's feature to those of its views."""
    return torch.stack([F.cosine_similarity(features, view) for view in views]).mean(dim=0)


def _similarity(features: Tensor, views: Sequence[Tensor]) -> Tensor:
    """Return the mean dot product (n,) of each image's feature with the features of its views at unit length.

    Unlike the gradient of the cosine, which has no part along the feature, its gradient shows what they share.
    """
    return torch.stack([(features * F.normalize(view)).sum(dim=1) for view in views]).mean(dim=0)


@torch.no_grad()
def _features_of_views(config: Config, encoder: nn.Module, chosen: Chosen) -> list[Tensor]:
    """Return the features (n, D) of the first view of each image, as training makes it, in the first epochs."""
    number = max(1, config.views.num_recipes)
    maker = ViewMaker(config.views, number, config.seed, len(chosen))
    batches = training_batches(
        chosen,
        config.views,
        num_views=number,
        with_original=False,
        seed=config.seed,
        steps=range(VIEWS),
        global_batch_size=len(chosen),
        images_per_class=None,
        threads=1,
    )
    found = []
    for raw in batches:
        view = maker.view(torch.from_numpy(raw.images[0]), 0, raw.view_key, raw.rows)
        found.append(encoder(view)[np.argsort(raw.rows)])
    return found


def _of_feature_maps(encoder: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules whose outputs timm lists as the encoder's feature maps, from fine to coarse."""
    for entry in encoder.feature_info:  # type: ignore[union-attr]
        yield encoder.get_submodule(entry["module"])
