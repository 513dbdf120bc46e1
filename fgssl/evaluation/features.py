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
from fgssl.errors import DataError, NonFiniteError
from fgssl.progress import Track, silent
from fgssl.settings.views import ViewSettings
from fgssl.store.outcomes import Outcomes
from fgssl.views.normalization import normalized, to_unit


class LabeledImages(Images, Protocol):
    """A split whose images also have groups and attributes."""

    groups: NDArray[np.int64]
    """(N,) group of each image, such as a track; a validation split never divides a group."""
    attributes: dict[str, NDArray[np.float64]]
    """Recorded attributes by name, (N,) each."""


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Both splits of a dataset, and the level of the labels that is measured."""

    train: LabeledImages
    test: LabeledImages
    label_level: int
    seed: int

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """Labels (N,) of the train split at `label_level`."""
        return self.train.labels[:, self.label_level]

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Labels (M,) of the test split at `label_level`."""
        return self.test.labels[:, self.label_level]


@dataclass(frozen=True, kw_only=True)
class Features(Splits):
    """Float32 features of the images; a split is encoded when a measure first reads it."""

    encoder: nn.Module
    """Module from images (n, C, H, W) to features (n, D); lies on `device`."""
    views: ViewSettings
    device: torch.device
    """Device of the encoder and of all features."""
    batch_size: int
    """Number of images per forward pass."""
    threads: int
    """Number of threads that read images."""
    classifier: nn.Module | None = None
    """Trained classifier of `cross_entropy`, from features to logits; None for other methods."""
    known: Mapping[str, Tensor] = field(default_factory=dict)
    """Features by split (`train`, `test`) that an earlier evaluation computed."""
    track: Track = silent
    """Display of progress in encoding and in slow measures."""
    encoded: dict[str, Tensor] = field(default_factory=dict, init=False)
    """Features by split that this object computed."""
    outcomes: Outcomes = field(default_factory=Outcomes, init=False)
    """Outcomes of single test images, to which measures add theirs."""

    @functools.cached_property
    def of_train(self) -> Tensor:
        """Features (N, D) of the train split."""
        return self._of("train", self.train)

    @functools.cached_property
    def of_test(self) -> Tensor:
        """Features (M, D) of the test split."""
        return self._of("test", self.test)

    def of_random_train_views(self, epoch: int) -> Tensor:
        """Return features (N, D) of one random crop and flip of each training image, drawn anew for each epoch."""
        return self._encode(self.train, epoch)

    def _of(self, split: str, images: Images) -> Tensor:
        if split not in self.known:
            self.encoded[split] = self._encode(images, None)
        return self.known[split] if split in self.known else self.encoded[split]

    @torch.inference_mode()
    def _encode(self, images: Images, random_view_epoch: int | None) -> Tensor:
        """Return float32 features (N, D) in the order of `images`, with the encoder in evaluation mode."""
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
                pixels = to_unit(torch.from_numpy(raw.images[0]).to(self.device))
                found.append(self.encoder(normalized(pixels, self.views)).float().cpu())
                advance(len(raw.rows))
        return torch.cat(found).to(self.device)


def require_images(measure: str, split: str, features: Tensor, labels: Tensor) -> None:
    """Require finite features (N, D) of N >= 1 images and their labels (N,).

    Another shape of the labels would broadcast into a wrong number of hits.

    Raises:
        DataError: N is 0.
        NonFiniteError: The features hold NaN or infinity.
        ValueError: The features or labels have another shape.
    """
    if not len(features):
        raise DataError(f"{measure}: there are no {split} images; pack data with images in both splits")
    if features.ndim != 2 or tuple(labels.shape) != (len(features),):
        raise ValueError(
            f"{measure}: {split} features of shape {tuple(features.shape)} and labels of shape {tuple(labels.shape)}: "
            "must be (N, D) and (N,), one label per image"
        )
    require_finite(features, measure, split)


def require_finite(features: Tensor, measure: str, split: str) -> None:
    """Raise a `NonFiniteError` that names the measure and the split (`test`) if features hold NaN or infinity."""
    # `aminmax` passes NaN on, and takes no memory; `isfinite` would take more than the features.
    if features.numel() and not torch.isfinite(torch.stack(torch.aminmax(features))).all():
        raise NonFiniteError(f"{measure}: the features of the {split} images hold NaN or infinity")
