"""Features of a frozen encoder, computed once for all measures."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fgssl.data.loader import Images, evaluation_batches
from fgssl.errors import NonFiniteError
from fgssl.progress import Track, silent
from fgssl.settings.views import ViewSettings
from fgssl.views import color


class LabeledImages(Images, Protocol):
    """A split with what is known of its images."""

    groups: NDArray[np.int64]
    """(N,) images of one group (a track) are never torn apart."""
    attributes: dict[str, NDArray[np.float64]]
    """(N,) each."""


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The images of a dataset and the level of their labels that is measured."""

    train: LabeledImages
    test: LabeledImages
    label_level: int
    seed: int

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """(N,)"""
        return self.train.labels[:, self.label_level]

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """(M,)"""
        return self.test.labels[:, self.label_level]


@dataclass(frozen=True, kw_only=True)
class Features(Splits):
    """Features of the images in float32 on one device; a split is encoded when a measure first reads it."""

    encoder: nn.Module
    """On `device`."""
    views: ViewSettings
    device: torch.device
    batch_size: int
    """Images of a forward pass."""
    threads: int
    """Readers of images."""
    classifier: nn.Module | None = None
    """The trained classifier of `cross_entropy`: features to logits."""
    known: Mapping[str, Tensor] = field(default_factory=dict)
    """Features of `train` or `test` that an earlier evaluation computed."""
    track: Track = silent
    """Display of the progress of long steps, also of those of the measures."""
    encoded: dict[str, Tensor] = field(default_factory=dict, init=False)
    """Features by split that this object computed."""

    @functools.cached_property
    def of_train(self) -> Tensor:
        """(N, D)"""
        return self._of("train", self.train)

    @functools.cached_property
    def of_test(self) -> Tensor:
        """(M, D)"""
        return self._of("test", self.test)

    def of_random_train_views(self, epoch: int) -> Tensor:
        """Encode one random crop and flip of each training image: (N, D)."""
        return self._encode(self.train, epoch)

    def _of(self, split: str, images: Images) -> Tensor:
        if split not in self.known:
            self.encoded[split] = self._encode(images, None)
        return self.known[split] if split in self.known else self.encoded[split]

    @torch.inference_mode()
    def _encode(self, images: Images, random_view_epoch: int | None) -> Tensor:
        """Return (N, D) float32, in the order of `images`, by the encoder in evaluation mode, its own BatchNorm."""
        batches = evaluation_batches(
            images,
            self.views,
            batch_size=self.batch_size,
            threads=self.threads,
            seed=self.seed,
            random_view_epoch=random_view_epoch,
        )
        self.encoder.eval()
        found = []
        with self.track(f"encode {'train' if images is self.train else 'test'}", len(images), "images") as advance:
            for raw in batches:
                pixels = color.to_unit(torch.from_numpy(raw.images[0]).to(self.device))
                if random_view_epoch is not None and self.views.horizontal_flip:
                    pixels = color.randomly_flipped(pixels, self.seed, random_view_epoch, raw.rows)
                found.append(self.encoder(color.normalized(pixels, self.views)).float().cpu())
                advance(len(raw.rows))
        return torch.cat(found).to(self.device)


def require_finite(features: Tensor, measure: str, split: str) -> None:
    """Raise the `NonFiniteError` that names the measure and the split, such as `test`."""
    if not torch.isfinite(features).all():
        raise NonFiniteError(f"{measure}: the features of the {split} images hold values that are not finite")
