"""Frozen features -> accuracy of a linear classifier at several shares of the labels.

The protocol of MoCo (He et al. 2020, section 4.1): features as they are, neither centered nor scaled, which is what its
unusual learning rate of 30 is for; softmax regression by SGD with momentum, the rate stepped down twice. The weights
start at zero: the problem is convex, so the start needs no randomness.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl.errors import DataError, NonFiniteError
from fgssl.evaluation.features import require_finite
from fgssl.evaluation.splits import Rows, grouped_split, stratified_subset
from fgssl.randomness import permutation

if TYPE_CHECKING:
    from fgssl.evaluation.measures.linear import LinearProbe

Labels = NDArray[np.int64]


def selected_linear_probe(
    train_features: Tensor,
    train_labels: Labels,
    train_groups: Labels,
    test_features: Tensor,
    test_labels: Labels,
    settings: "LinearProbe",
    seed: int,
) -> dict[str, float]:
    """Recipe `selected`: the learning rate is chosen on held-out training labels, then all of them are learnt from.

    `train_features` (N, D) and `test_features` (M, D) in float32 on one device; labels (N,) and (M,), `train_groups`
    (N,) on the CPU. Returns percent `linear_<p>` and `learning_rate_<p>` for each share of p percent of the labels.

    Raises `NonFiniteError` for features that are not finite or where no rate converges, `DataError` where nothing
    can be held out.
    """
    require_finite(train_features, "linear probe", "training")
    subsets = label_subsets(train_labels, settings, seed)
    rates = choose_learning_rates(train_features, train_labels, train_groups, subsets, settings, seed)
    classifiers = fit(lambda epoch: train_features, train_labels, subsets, [(rate,) for rate in rates], settings, seed)
    return _measures(classifiers, test_features, test_labels, settings)


def fixed_linear_probe(
    train_features: Callable[[int], Tensor],
    train_labels: Labels,
    test_features: Tensor,
    test_labels: Labels,
    settings: "LinearProbe",
    seed: int,
) -> dict[str, float]:
    """Recipe `fixed`: the one rate of `settings.learning_rates`, on features drawn anew every epoch.

    `train_features(epoch)` gives (N, D) features of one random view of each training image; it is called once an
    epoch, in order, for all shares of the labels. The rest as in `selected_linear_probe`.
    """

    def finite_features(epoch: int) -> Tensor:
        features = train_features(epoch)
        require_finite(features, "linear probe", "training")
        return features

    subsets = label_subsets(train_labels, settings, seed)
    rates = [settings.learning_rates[:1]] * len(subsets)
    classifiers = fit(finite_features, train_labels, subsets, rates, settings, seed)
    return _measures(classifiers, test_features, test_labels, settings)


class LinearClassifiers:
    """R softmax regressions that see the same batches, one for each learning rate."""

    def __init__(
        self, width: int, classes: int, learning_rates: Sequence[float], settings: "LinearProbe", like: Tensor
    ) -> None:
        """`width` is D, `classes` C; the device and type are those of `like`."""
        self.learning_rates = tuple(learning_rates)
        self.classes = classes
        self._settings = settings
        columns = len(self.learning_rates) * classes
        # One matrix for all rates, so that a step is two matrix products whatever R is.
        self._weight = like.new_zeros(width, columns)  # (D, R*C)
        self._bias = like.new_zeros(columns)
        self._weight_momentum, self._bias_momentum = torch.zeros_like(self._weight), torch.zeros_like(self._bias)
        self._rates = like.new_tensor(self.learning_rates).repeat_interleave(classes)  # (R*C,)

    @property
    def weight(self) -> Tensor:
        """(R, D, C)"""
        return self._weight.view(len(self._weight), -1, self.classes).transpose(0, 1)

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, R, C)"""
        return torch.addmm(self._bias, features, self._weight).view(len(features), -1, self.classes)

    def step(self, features: Tensor, targets: Tensor, progress: float) -> None:
        """One step of SGD on features (B, D) with one-hot targets (B, C); `progress` in [0, 1) sets the rate."""
        settings = self._settings
        residual = self.logits(features).softmax(dim=2).sub_(targets[:, None]).div_(len(features)).flatten(1)
        self._weight_momentum.addmm_(features.T, residual, beta=settings.momentum)
        self._bias_momentum.mul_(settings.momentum).add_(residual.sum(dim=0))
        if settings.weight_decay:
            self._weight_momentum.add_(self._weight, alpha=settings.weight_decay)
            self._bias_momentum.add_(self._bias, alpha=settings.weight_decay)
        scale = 0.1 ** sum(progress >= milestone for milestone in settings.milestones)
        self._weight.addcmul_(self._weight_momentum, self._rates, value=-scale)
        self._bias.addcmul_(self._bias_momentum, self._rates, value=-scale)

    def accuracy(self, features: Tensor, labels: Tensor) -> list[float | None]:
        """Percent of features (N, D) whose largest logit is at their label (N,), a rate each; None if it diverged."""
        correct = (self.logits(features).argmax(dim=2) == labels[:, None]).sum(dim=0)  # (R,)
        finite = torch.isfinite(self._weight.sum(dim=0) + self._bias).view(-1, self.classes).all(dim=1)
        return [
            100 * hits / len(labels) if converged else None
            for hits, converged in zip(correct.tolist(), finite.tolist(), strict=True)
        ]


def label_subsets(labels: Labels, settings: "LinearProbe", seed: int) -> list[Rows]:
    """The rows whose labels may be used, for each of the settings' label fractions."""
    return [stratified_subset(labels, fraction, seed) for fraction in settings.label_fractions]


def choose_learning_rates(
    features: Tensor, labels: Labels, groups: Labels, subsets: list[Rows], settings: "LinearProbe", seed: int
) -> list[float]:
    """For each subset the rate that does best on its held-out part; the smallest of equals. Sees no test image."""
    if len(set(settings.learning_rates)) == 1:
        return [settings.learning_rates[0]] * len(subsets)
    splits = validation_splits(labels, groups, subsets, settings, seed)
    rates = sorted(set(settings.learning_rates))
    candidates = fit(
        lambda epoch: features, labels, [fitted for fitted, _ in splits], [rates] * len(subsets), settings, seed
    )
    return [
        _best(classifiers, features[_tensor(rows, features)], _tensor(labels[rows], features))
        for classifiers, (_, rows) in zip(candidates, splits, strict=True)
    ]


def validation_splits(
    labels: Labels, groups: Labels, subsets: list[Rows], settings: "LinearProbe", seed: int
) -> list[tuple[Rows, Rows]]:
    """For each subset (rows to fit on, rows held out); raises `DataError` where none can be held out."""
    splits = []
    for rows in subsets:
        fit_part, validation_part = grouped_split(labels[rows], groups[rows], settings.validation_fraction, seed)
        if not len(validation_part):
            raise DataError(
                f"linear probe: none of the classes has two groups among the {len(rows)} labeled images, so none can "
                "be held out to choose a learning rate; raise evaluation.linear.label_fractions "
                "or give one rate in evaluation.linear.learning_rates"
            )
        splits.append((rows[fit_part], rows[validation_part]))
    return splits


def _best(classifiers: LinearClassifiers, features: Tensor, labels: Tensor) -> float:
    accuracies = classifiers.accuracy(features, labels)
    scored = [
        (accuracy, -rate)
        for accuracy, rate in zip(accuracies, classifiers.learning_rates, strict=True)
        if accuracy is not None
    ]
    if not scored:
        raise _diverged(classifiers)
    return -max(scored)[1]


def fit(
    features_at: Callable[[int], Tensor],
    labels: Labels,
    subsets: list[Rows],
    learning_rates: Sequence[Sequence[float]],
    settings: "LinearProbe",
    seed: int,
) -> list[LinearClassifiers]:
    """Trained classifiers for each subset of rows, with its learning rates.

    `features_at(epoch)` (N, D). The order of the batches is a pure function of (seed, epoch, size of the subset).
    """
    trained: list[LinearClassifiers] = []
    for epoch in range(settings.epochs):
        features = features_at(epoch)
        if not trained:
            width, classes = features.shape[1], int(labels.max()) + 1
            trained = [LinearClassifiers(width, classes, rates, settings, features) for rates in learning_rates]
            one_hot = torch.eye(classes, dtype=features.dtype, device=features.device)[_tensor(labels, features)]
        for classifiers, rows in zip(trained, subsets, strict=True):
            order = permutation(seed, "linear probe", epoch, length=len(rows))
            for batch in torch.split(_tensor(rows[order], features), settings.batch_size):
                classifiers.step(features[batch], one_hot[batch], epoch / settings.epochs)
    return trained


def _measures(
    trained: list[LinearClassifiers], test_features: Tensor, test_labels: Labels, settings: "LinearProbe"
) -> dict[str, float]:
    require_finite(test_features, "linear probe", "test")
    accuracies, rates = {}, {}
    for classifiers, percent in zip(trained, settings.percents, strict=True):
        (accuracy,) = classifiers.accuracy(test_features, _tensor(test_labels, test_features))
        if accuracy is None:
            raise _diverged(classifiers)
        accuracies[f"linear_{percent}"] = accuracy
        rates[f"learning_rate_{percent}"] = classifiers.learning_rates[0]
    return accuracies | rates


def _diverged(classifiers: LinearClassifiers) -> NonFiniteError:
    rates = ", ".join(f"{rate:g}" for rate in classifiers.learning_rates)
    return NonFiniteError(
        f"linear probe: the weights are not finite after training with learning rate {rates}; "
        "give smaller evaluation.linear.learning_rates"
    )


def _tensor(array: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.tensor(array, device=like.device)
