"""A frozen encoder -> its measures, those that the settings ask for."""

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fgssl.collapse import effective_rank, normalized_std
from fgssl.data.loader import Images, evaluation_batches
from fgssl.errors import DataError, Problem, SettingsError
from fgssl.evaluation.centroids import outliers
from fgssl.evaluation.classifier import accuracy
from fgssl.evaluation.features import features, require_finite
from fgssl.evaluation.knn import require_neighbors, weighted_knn
from fgssl.evaluation.linear import fixed_linear_probe, label_subsets, selected_linear_probe, validation_splits
from fgssl.evaluation.nuisances import check_attributes, nuisance_probe, validation_split
from fgssl.evaluation.ranking import retrieval
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.settings.views import ViewSettings


class LabeledImages(Images, Protocol):
    """A split with what is known of its images."""

    labels: NDArray[np.int64]
    """(N, L), finest level first."""
    groups: NDArray[np.int64]
    """(N,) images of one group (a track) are never torn apart."""
    attributes: dict[str, NDArray[np.float64]]
    """(N,) each."""


@dataclass(frozen=True)
class Measurement:
    settings: EvaluationSettings
    views: ViewSettings
    seed: int
    device: torch.device
    batch_size: int
    """Images a forward pass."""
    threads: int

    def check(self, train: LabeledImages, test: LabeledImages) -> None:
        """Raise the `DataError` of data that cannot be measured now, rather than after the training."""
        settings, level = self.settings, self.settings.label_level
        for split, images in (("train", train), ("test", test)):
            for key, asked in self._levels().items():
                _require_level(images, split, key, asked)
        if settings.retrieval and np.unique(test.labels[:, level], return_counts=True)[1].max() < 2:
            raise DataError(
                f"retrieval: no two of the {len(test)} test images share a label; take a coarser "
                "evaluation.label_level or a test split with several images a class"
            )
        if (probe := settings.linear) and probe.recipe == "selected" and len(set(probe.learning_rates)) > 1:
            labels = train.labels[:, level]
            validation_splits(labels, train.groups, label_subsets(labels, probe, self.seed), probe, self.seed)
        if settings.knn:
            require_neighbors(len(train), settings.knn)
        if settings.nuisances:
            check_attributes(settings.nuisances, train.attributes, test.attributes)
            validation_split(train.groups, self.seed)

    def __call__(
        self, encoder: nn.Module, train: LabeledImages, test: LabeledImages, classifier: nn.Module | None = None
    ) -> dict[str, float]:
        """The measures of `measure_names`, in its order; after those of the linear probe `learning_rate_<p>` of each.

        `encoder` lies on `device`; `classifier` takes features to logits. Raises what `check` and the measures raise,
        and a `SettingsError` where the classifier is to be measured and there is none.
        """
        self.check(train, test)
        settings, level = self.settings, self.settings.label_level
        if settings.classifier and classifier is None:
            message = "true, but no classifier was trained: only cross_entropy trains one (method.name); set it false"
            raise SettingsError([Problem("config", "evaluation.classifier", message)])
        test_features = self._features(encoder, test)

        @functools.cache
        def train_features() -> Tensor:
            return self._features(encoder, train)

        measures: dict[str, float] = {}
        if settings.linear and settings.linear.recipe == "fixed":
            measures |= fixed_linear_probe(
                lambda epoch: self._features(encoder, train, epoch),
                train.labels[:, level],
                test_features,
                test.labels[:, level],
                settings.linear,
                self.seed,
            )
        elif settings.linear:
            measures |= selected_linear_probe(
                train_features(),
                train.labels[:, level],
                train.groups,
                test_features,
                test.labels[:, level],
                settings.linear,
                self.seed,
            )
        if settings.retrieval:
            measures |= retrieval(test_features, test.labels[:, level])
        if settings.knn:
            measures |= weighted_knn(
                train_features(), train.labels[:, level], test_features, test.labels[:, level], settings.knn
            )
        if settings.outliers:
            from_train = settings.outliers.centroids == "train"
            known, labels = (train_features(), train.labels) if from_train else (test_features, test.labels)
            for name, asked in settings.outliers.levels.items():
                count = outliers(known, labels[:, asked], test_features, test.labels[:, asked])
                measures[f"outliers_{name}"] = count
        if settings.nuisances:
            measures |= nuisance_probe(
                train_features(),
                train.attributes,
                train.groups,
                test_features,
                test.attributes,
                settings.nuisances,
                self.seed,
            )
        if settings.collapse:
            require_finite(test_features, "collapse", "test")
            measures["feature_std"] = float(normalized_std(test_features.double()))
            measures["effective_rank"] = float(effective_rank(test_features))
        if classifier is not None and settings.classifier:
            measures |= accuracy(classifier, test_features, test.labels[:, level])
        return measures

    def _levels(self) -> dict[str, int]:
        """Levels of labels that are asked for, by the key that does so."""
        settings = self.settings
        levels: dict[str, int] = {}
        if settings.linear or settings.retrieval or settings.knn or settings.classifier:
            levels["evaluation.label_level"] = settings.label_level
        if settings.outliers:
            levels |= {f"evaluation.outliers.levels.{name}": level for name, level in settings.outliers.levels.items()}
        return levels

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


def _require_level(images: LabeledImages, split: str, key: str, level: int) -> None:
    levels = images.labels.shape[1]
    if level >= levels:
        raise DataError(
            f"{key} {level}: the {split} split has {levels} label levels "
            "(0 is the finest); pack labeled images or set `evaluation: null`"
        )
