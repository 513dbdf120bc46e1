"""Selection of measures and their features, and errors before any is computed."""

import dataclasses
import statistics
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fgssl.collapse import effective_rank, normalized_std
from fgssl.errors import DataError, NonFiniteError, SettingsError
from fgssl.evaluation.accuracy import accuracies
from fgssl.evaluation.centroids import outliers
from fgssl.evaluation.classifier import predictions
from fgssl.evaluation.features import Features, Splits
from fgssl.evaluation.knn import weighted_knn
from fgssl.evaluation.measure import check, measure
from fgssl.evaluation.measures.knn import KNN
from fgssl.evaluation.measures.linear import LinearProbe
from fgssl.evaluation.measures.outliers import Outliers
from fgssl.evaluation.nuisances import nuisance_probe
from fgssl.evaluation.ranking import retrieval
from fgssl.progress import silent
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.settings.views import ViewSettings
from fgssl.store.outcomes import Outcomes


def evaluation(**keys: Any) -> EvaluationSettings:
    return EvaluationSettings(**keys)


def with_keys(settings: EvaluationSettings, **keys: Any) -> EvaluationSettings:
    return dataclasses.replace(settings, **keys)


PROBE = LinearProbe(epochs=3, learning_rates=(0.01, 0.1), label_fractions=(1.0, 0.5))
NOTHING = evaluation(linear=None, retrieval=False, collapse=True)
EVERYTHING = evaluation(
    linear=PROBE,
    knn=KNN(neighbors=5),
    outliers=Outliers(levels={"genus": 1, "species": 0}),
    nuisances={"light": ("brightness",), "any": ("brightness", "side")},
    collapse=True,
    classifier=True,
)


class Pictures:
    """N images of 4 px: noise around the colors of 3 species in 2 genera, with various brightness."""

    def __init__(self, images: int, seed: int, levels: int = 2) -> None:
        random = np.random.default_rng(seed)
        species = np.arange(images) % 3
        self.labels: NDArray[np.int64] = np.stack([species, species // 2], axis=1)[:, :levels]
        self.groups = np.arange(images)
        self.source_ids = [f"{row}.png" for row in range(images)]
        light = random.uniform(0.3, 1.0, images)
        self.attributes = {"brightness": light, "side": random.integers(0, 2, images).astype(np.float64)}
        colors = np.array([[130, 100, 110], [110, 125, 100], [105, 110, 125]])[species]
        pixels = light[:, None, None, None] * (colors[:, None, None] + random.normal(scale=60, size=(images, 4, 4, 3)))
        self.drawn: NDArray[np.uint8] = pixels.clip(0, 255).astype(np.uint8)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, row: int) -> NDArray[np.uint8]:
        self.reads += 1
        return self.drawn[row]


def splits(levels: int = 2) -> tuple[Pictures, Pictures]:
    return Pictures(60, 0, levels), Pictures(30, 1, levels)


def checked(settings: EvaluationSettings, train: Pictures, test: Pictures) -> None:
    check(settings, Splits(train=train, test=test, label_level=settings.label_level, seed=0))


def measured(
    settings: EvaluationSettings, encoder: nn.Module, train: Pictures, test: Pictures, head: nn.Module | None = None
) -> dict[str, float]:
    features = Features(
        train=train,
        test=test,
        label_level=settings.label_level,
        seed=0,
        encoder=encoder,
        views=ViewSettings(image_size=4),
        device=torch.device("cpu"),
        batch_size=16,
        threads=1,
        classifier=head,
    )
    return measure(settings, features)


def names(settings: EvaluationSettings) -> tuple[str, ...]:
    return tuple(column.name for column in settings.columns)


def classifier(classes: int = 3) -> nn.Module:
    made = nn.Linear(48, classes)
    with torch.no_grad():
        made.weight.copy_(torch.randn(classes, 48, generator=torch.Generator().manual_seed(0)))
        made.bias.zero_()
    return made


ENCODER = nn.Flatten()


def encoded(images: Pictures) -> torch.Tensor:
    """Return the pixels, normalized as in the views' settings, as features."""
    views = ViewSettings(image_size=4)
    pixels = (images.drawn / 255 - np.array(views.mean)) / np.array(views.std)
    return torch.tensor(pixels.transpose(0, 3, 1, 2).reshape(len(images), 48), dtype=torch.float32)


def measured_directly(train: Pictures, test: Pictures, level: int, head: nn.Module) -> Mapping[str, float]:
    known, seen = encoded(train), encoded(test)
    labels, truth = train.labels[:, level], test.labels[:, level]
    features = SimpleNamespace(
        train=train,
        train_labels=labels,
        of_train=known,
        of_test=seen,
        test_labels=truth,
        seed=0,
        track=silent,
        device=seen.device,
        outcomes=Outcomes(),
    )
    accuracy, balanced = accuracies(predictions(head, seen, truth) == torch.from_numpy(truth), torch.from_numpy(truth))
    return {
        **PROBE.value(features),  # type: ignore[arg-type]
        **retrieval(seen, torch.from_numpy(truth)),
        "knn": weighted_knn(known, labels, seen, truth, 5, 0.07),
        "knn_balanced": statistics.fmean(
            [weighted_knn(known, labels, seen[truth == label], truth[truth == label], 5) for label in np.unique(truth)]
        ),
        "outliers_genus": outliers(known, train.labels[:, 1], seen, test.labels[:, 1]),
        "outliers_species": outliers(known, train.labels[:, 0], seen, test.labels[:, 0]),
        **nuisance_probe(known, train.attributes, train.groups, seen, test.attributes, EVERYTHING.nuisances, seed=0),
        "feature_std": float(normalized_std(seen)),
        "effective_rank": float(effective_rank(seen)),
        "accuracy": accuracy,
        "accuracy_balanced": balanced,
    }


@pytest.mark.parametrize("level", [0, 1])
def test_everything_at_once_is_each_by_itself(level: int) -> None:
    train, test = splits()
    head = classifier()
    settings = with_keys(EVERYTHING, label_level=level)
    measures = measured(settings, ENCODER, train, test, head)
    expected = measured_directly(train, test, level, head)
    assert measures == pytest.approx(expected, rel=1e-4)
    assert tuple(measures) == names(settings)
    assert measures["nuisance_light"] > 80
    assert measures["nuisance_any"] < measures["nuisance_light"] - 30
    assert 0 < measures["outliers_species"] < 25
    assert 20 < measures["knn"] < 95


def test_train_images_are_encoded_once_for_all_measures() -> None:
    train, test = splits()
    measured(EVERYTHING, ENCODER, train, test, classifier())
    assert (train.reads, test.reads) == (60, 30)


@pytest.mark.parametrize(
    "settings",
    [
        NOTHING,
        with_keys(NOTHING, retrieval=True),
        with_keys(NOTHING, classifier=True),
        with_keys(NOTHING, outliers=Outliers(levels={"genus": 1}, centroids="test")),
    ],
)
def test_train_images_are_not_encoded_for_measures_of_the_test_split(settings: EvaluationSettings) -> None:
    train, test = splits()
    measures = measured(settings, ENCODER, train, test, classifier())
    assert tuple(measures) == names(settings)
    assert (train.reads, test.reads) == (0, 30)


def test_recipe_fixed_draws_train_views_every_epoch() -> None:
    train, test = splits()
    fixed = dataclasses.replace(PROBE, recipe="fixed", learning_rates=(0.1,))
    measured(evaluation(linear=fixed), ENCODER, train, test)
    assert (train.reads, test.reads) == (3 * 60, 30)
    both = evaluation(linear=fixed, retrieval=False, knn=KNN(neighbors=5))
    measures = measured(both, ENCODER, train, test)
    assert train.reads == 3 * 60 + 4 * 60
    assert measures["knn"] == pytest.approx(measured_directly(train, test, 0, classifier())["knn"])


def test_centroids_of_the_test_split() -> None:
    train, test = splits()
    settings = with_keys(NOTHING, outliers=Outliers(levels={"species": 0}, centroids="test"))
    measures = measured(settings, ENCODER, train, test)
    labels = test.labels[:, 0]
    assert measures["outliers_species"] == outliers(encoded(test), labels, encoded(test), labels)
    assert isinstance(measures["outliers_species"], int)


def test_unlabeled_images_have_nuisances_and_collapse() -> None:
    train, test = splits(levels=0)
    settings = with_keys(NOTHING, nuisances={"light": ("brightness",)})
    checked(settings, train, test)
    assert tuple(measured(settings, ENCODER, train, test)) == ("nuisance_light", "feature_std", "effective_rank")


def test_collapsed_features() -> None:
    class Constant(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 8), 0.1)

    train, test = splits()
    settings = with_keys(NOTHING, outliers=Outliers(levels={"genus": 1}), nuisances={"light": ("brightness",)})
    measures = measured(settings, Constant(), train, test)
    assert measures["outliers_genus"] == 10  # those that are not of genus 0
    assert measures["nuisance_light"] == pytest.approx(0, abs=10)
    assert (measures["feature_std"], measures["effective_rank"]) == pytest.approx((0, 0), abs=1e-6)


def test_features_that_are_not_finite_have_no_collapse_measures() -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 8), torch.nan)

    with pytest.raises(NonFiniteError, match="collapse: the features of the test images"):
        measured(NOTHING, Broken(), *splits())


# -------------------------------------------------------------------------------------------- errors


def test_what_cannot_be_measured_is_refused_before_training() -> None:
    train, test = splits()
    train.attributes["brightness"][:] = 1
    settings = with_keys(NOTHING, nuisances={"light": ("brightness",)})
    message = "evaluation.nuisances.light: attribute brightness: all 60 training images have the value 1"
    with pytest.raises(DataError, match=message):
        checked(settings, train, test)
    assert (train.reads, test.reads) == (0, 0)


def test_training_images_of_one_group_have_nothing_to_hold_out() -> None:
    train, test = splits()
    train.groups = np.zeros(60, dtype=np.int64)
    with pytest.raises(DataError, match="linear probe: no class has two groups"):
        checked(evaluation(linear=PROBE), train, test)
    with pytest.raises(DataError, match=r"evaluation.nuisances: the 60 training images are all of one group"):
        checked(with_keys(NOTHING, nuisances={"light": ("brightness",)}), train, test)
    one_rate = dataclasses.replace(PROBE, learning_rates=(0.1,))
    checked(evaluation(linear=one_rate), train, test)


def test_no_classifier_to_measure() -> None:
    train, test = splits()
    with pytest.raises(
        SettingsError, match=r"evaluation.classifier: is true, but only cross_entropy trains a classifier"
    ):
        measured(evaluation(linear=None, retrieval=False, classifier=True), ENCODER, train, test)
    assert test.reads == 0
