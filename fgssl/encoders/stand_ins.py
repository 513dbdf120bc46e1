"""Modules whose outputs are measured in place of an encoder's features, to show what a measure gives without one."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from fgssl import randomness
from fgssl.encoders.build import build_encoder, feature_width
from fgssl.registries import load
from fgssl.settings.config import Config
from fgssl.settings.sanity import ChanceSettings, PixelsSettings


class StandIn(nn.Module):
    """Module from images (N, C, H, W) to features (N, D), built from `(settings, config)` of its method.

    Its state holds all that `prepare` took.
    """

    def prepare(self, batches: Iterable[Tensor]) -> None:
        """Take what is needed of the training images; batches are (n, C, H, W) as the evaluation sees them."""


def measured_encoder(config: Config) -> nn.Module:
    """Return the encoder of a run or its stand-in, without the weights that the run exports."""
    return build_stand_in(config) if config.method.stand_in else build_encoder(config.encoder, config.views.image_size)


def build_stand_in(config: Config) -> StandIn:
    """Return the module that is measured in place of the encoder, not prepared yet."""
    module: StandIn = load(config.method.stand_in, f"method {config.method.name}")(config.method, config)
    return module


class Pixels(StandIn):
    """Pixels, minus the mean training image, over the root mean square distance of the training images to it.

    The division changes no direction and no ratio of distances. It suits a linear probe whose learning rate is fixed.
    """

    mean: Tensor
    distance: Tensor

    def __init__(self, settings: PixelsSettings, config: Config) -> None:
        super().__init__()
        self.side = min(settings.side, config.views.image_size)
        self.register_buffer("mean", torch.zeros(3 * self.side**2))
        self.register_buffer("distance", torch.ones(()))

    def _pixels(self, images: Tensor) -> Tensor:
        """Return the pixels (N, D) of images, which are averaged to `side` x `side`."""
        return adaptive_avg_pool2d(images, self.side).flatten(1)

    def prepare(self, batches: Iterable[Tensor]) -> None:
        """Take the mean and the distance of the training images."""
        number, squares, total = 0, 0.0, torch.zeros(len(self.mean), dtype=torch.float64)
        for batch in batches:
            pixels = self._pixels(batch).double()
            number += len(pixels)
            total += pixels.sum(dim=0)
            squares += float(pixels.square().sum())
        mean = total / number
        self.mean.copy_(mean)
        self.distance.fill_(max(squares / number - float(mean.square().sum()), 0.0) ** 0.5 or 1.0)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, D)."""
        return (self._pixels(images) - self.mean) / self.distance


class Chance(StandIn):
    """Normal numbers of expected length 1 that depend on the seed and on all bytes of an image.

    They are a function of the image alone, so that every measure treats them as any features. Of two images, only
    equal ones have related features.
    """

    seed: Tensor

    def __init__(self, settings: ChanceSettings, config: Config) -> None:
        super().__init__()
        self.width = feature_width(build_encoder(config.encoder, config.views.image_size))
        self.register_buffer("seed", torch.tensor(config.seed))

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, D)."""
        digests = [hashlib.sha256(image.tobytes()).digest()[:8] for image in images.cpu().contiguous().numpy()]
        rows = np.frombuffer(b"".join(digests), dtype="<i8")
        numbers = randomness.normal(int(self.seed), "chance", rows=rows, columns=self.width)
        return torch.from_numpy(numbers / self.width**0.5).float().to(images.device)
