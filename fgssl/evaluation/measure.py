"""A frozen encoder -> its measures: linear probe and retrieval."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fgssl.data.loader import Images, evaluation_batches
from fgssl.errors import DataError
from fgssl.evaluation.features import features
from fgssl.evaluation.linear import fixed_linear_probe, label_subsets, selected_linear_probe, validation_splits
from fgssl.evaluation.retrieval import retrieval
from fgssl.evaluation.settings import EvaluationSettings
from fgssl.views.settings import ViewSettings


class LabelledImages(Images, Protocol):
    """A split with labels."""

    labels: NDArray[np.int64]
    """(N, L), finest level first."""
    groups: NDArray[np.int64]
    """(N,) images of one group (a track) are never torn apart."""


@dataclass(frozen=True)
class Measurement:
    settings: EvaluationSettings
    views: ViewSettings
    seed: int
    device: torch.device
    batch_size: int
    """Images a forward pass."""
    threads: int

    def check(self, train: LabelledImages, test: LabelledImages) -> None:
        """Raise the `DataError` of labels that cannot be measured now, rather than after the training."""
        labels, probe = self._labels(train, "train"), self.settings.linear
        test_labels = self._labels(test, "test")
        if np.unique(test_labels, return_counts=True)[1].max() < 2:
            raise DataError(
                f"retrieval: no two of the {len(test)} test images share a label; take a coarser "
                "evaluation.label_level or a test split with several images a class"
            )
        if probe.recipe == "selected" and len(set(probe.learning_rates)) > 1:
            validation_splits(labels, train.groups, label_subsets(labels, probe, self.seed), probe, self.seed)

    def __call__(self, encoder: nn.Module, train: LabelledImages, test: LabelledImages) -> dict[str, float]:
        """Percent of each measure, `learning_rate_<p>` of each probe. Raises `DataError` without labels."""
        train_labels, test_labels = self._labels(train, "train"), self._labels(test, "test")
        test_features = self._features(encoder, test)
        if self.settings.linear.recipe == "fixed":
            linear = fixed_linear_probe(
                lambda epoch: self._features(encoder, train, epoch),
                train_labels,
                test_features,
                test_labels,
                self.settings.linear,
                self.seed,
            )
        else:
            linear = selected_linear_probe(
                self._features(encoder, train),
                train_labels,
                train.groups,
                test_features,
                test_labels,
                self.settings.linear,
                self.seed,
            )
        return linear | retrieval(test_features, torch.from_numpy(test_labels).to(test_features.device))

    def _features(self, encoder: nn.Module, images: Images, random_view_epoch: int | None = None) -> Tensor:
        """(N, D) of the evaluation crop, or of the probe's random crop and flip of an epoch."""
        seed = None if random_view_epoch is None else self.seed
        batches = evaluation_batches(
            images,
            self.views,
            batch_size=self.batch_size,
            threads=self.threads,
            random_crop_seed=seed,
            epoch=random_view_epoch or 0,
        )
        flip_seed = seed if self.views.horizontal_flip else None
        return features(encoder, batches, self.views, self.device, flip_seed).to(self.device)

    def _labels(self, images: LabelledImages, split: str) -> NDArray[np.int64]:
        levels = images.labels.shape[1]
        if self.settings.label_level >= levels:
            raise DataError(
                f"evaluation.label_level {self.settings.label_level}: the {split} split has {levels} label levels "
                "(0 is the finest); pack labelled images or set `evaluation: null`"
            )
        return images.labels[:, self.settings.label_level]
