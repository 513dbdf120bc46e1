"""Accuracy of a linear classifier on frozen features, at several shares of the labels.

The protocol follows MoCo's (He et al. 2020, Sec. 4.1): softmax regression by SGD with momentum. The learning rate is
lowered at each milestone (two by default). Unlike MoCo's, it can be chosen on held-out training images. Features are
neither centered nor scaled, which explains MoCo's unusual learning rate of 30. The weights start at zero: the problem
is convex, so a random start would add nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl.errors import DataError, NonFiniteError
from fgssl.evaluation.features import require_finite
from fgssl.evaluation.splits import Rows, grouped_split, stratified_subset
from fgssl.progress import Track, silent
from fgssl.randomness import permutation

Labels = NDArray[np.int64]
"""(N,) class of each image."""


@dataclass(frozen=True)
class SGD:
    """Settings of stochastic gradient descent, except the learning rate."""

    epochs: int
    batch_size: int
    momentum: float
    weight_decay: float
    milestones: tuple[float, ...]
    """Shares of training, in (0, 1), after which the learning rate is multiplied by 0.1."""


class LinearClassifiers:
    """R softmax regressions that see the same batches, one per learning rate."""

    def __init__(self, width: int, classes: int, learning_rates: Sequence[float], sgd: SGD, like: Tensor) -> None:
        """Start at zero weights for features of width D and C classes, on the device and in the type of `like`."""
        self.learning_rates = tuple(learning_rates)
        self.classes, self._sgd = classes, sgd
        columns = len(self.learning_rates) * classes
        # One matrix for all rates, so that a step is two matrix products whatever R is.
        self._weight = like.new_zeros(width, columns)  # (D, R*C)
        self._bias = like.new_zeros(columns)
        self._weight_momentum, self._bias_momentum = torch.zeros_like(self._weight), torch.zeros_like(self._bias)
        self._rates = like.new_tensor(self.learning_rates).repeat_interleave(classes)  # (R*C,)

    @property
    def weight(self) -> Tensor:
        """Weights (R, D, C)."""
        return self._weight.view(len(self._weight), -1, self.classes).transpose(0, 1)

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (N, R, C) of features (N, D)."""
        return torch.addmm(self._bias, features, self._weight).view(len(features), -1, self.classes)

    def step(self, features: Tensor, targets: Tensor, progress: float) -> None:
        """Take one step of SGD on features (B, D) and one-hot targets (B, C).

        `progress` in [0, 1) is the share of training done; it decides which milestones have lowered the learning rate.
        """
        sgd = self._sgd
        residual = self.logits(features).softmax(dim=2).sub_(targets[:, None]).div_(len(features)).flatten(1)
        self._weight_momentum.addmm_(features.T, residual, beta=sgd.momentum)
        self._bias_momentum.mul_(sgd.momentum).add_(residual.sum(dim=0))
        if sgd.weight_decay:
            self._weight_momentum.add_(self._weight, alpha=sgd.weight_decay)
            self._bias_momentum.add_(self._bias, alpha=sgd.weight_decay)
        scale = 0.1 ** sum(progress >= milestone for milestone in sgd.milestones)
        self._weight.addcmul_(self._weight_momentum, self._rates, value=-scale)
        self._bias.addcmul_(self._bias_momentum, self._rates, value=-scale)

    def accuracy(self, features: Tensor, labels: Tensor) -> list[float | None]:
        """Return the accuracy in percent of each classifier on features (N, D); None for one that diverged."""
        correct = (self.logits(features).argmax(dim=2) == labels[:, None]).sum(dim=0)  # (R,)
        finite = torch.isfinite(self._weight.sum(dim=0) + self._bias).view(-1, self.classes).all(dim=1)
        return [
            100 * hits / len(labels) if converged else None
            for hits, converged in zip(correct.tolist(), finite.tolist(), strict=True)
        ]


def label_subsets(labels: Labels, fractions: Sequence[float], seed: int) -> list[Rows]:
    """Return for each fraction the rows whose labels may be used, a stratified subset of `labels` (N,)."""
    return [stratified_subset(labels, fraction, seed) for fraction in fractions]


def validation_splits(
    labels: Labels, groups: Labels, subsets: list[Rows], fraction: float, seed: int
) -> list[tuple[Rows, Rows]]:
    """Return (rows to fit on, rows held out) for each subset of the rows.

    Args:
        labels: (N,) classes.
        groups: (N,) groups; a group is held out as a whole or not at all.
        subsets: One array of labeled rows per label fraction.
        fraction: Approximate share of each class's rows to hold out (groups stay whole).
        seed: Seed of the random choice.

    Raises:
        DataError: No row of a subset can be held out, because no class has two groups in it.
    """
    splits = []
    for rows in subsets:
        fit_part, validation_part = grouped_split(labels[rows], groups[rows], fraction, seed)
        if not len(validation_part):
            raise DataError(
                "linear probe: no class has two groups (tracks, or single images where there are no tracks) among the "
                f"{len(rows)} labeled images, so none can be held out to choose a learning rate: raise "
                "evaluation.linear.label_fractions, or give one rate in evaluation.linear.learning_rates"
            )
        splits.append((rows[fit_part], rows[validation_part]))
    return splits


def best_learning_rates(
    features: Tensor,
    labels: Labels,
    splits: list[tuple[Rows, Rows]],
    learning_rates: Sequence[float],
    sgd: SGD,
    seed: int,
    track: Track = silent,
) -> list[float]:
    """Return for each split the learning rate of highest accuracy on its held-out rows; among ties the smallest.

    Args:
        features: (N, D) train features.
        labels: (N,) classes.
        splits: (rows to fit on, rows held out), from `validation_splits`.
        learning_rates: Candidates.
        sgd: Settings of the training.
        seed: Seed of the order of the batches.
        track: Display of progress.

    Raises:
        NonFiniteError: Features hold NaN or infinity, or every candidate diverges.
    """
    rates = sorted(set(learning_rates))
    fitted_on = [fitted for fitted, _ in splits]
    candidates = fit(lambda epoch: features, labels, fitted_on, [rates] * len(splits), sgd, seed, track)
    return [
        _best(classifiers, features[_tensor(rows, features)], _tensor(labels[rows], features))
        for classifiers, (_, rows) in zip(candidates, splits, strict=True)
    ]


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
    sgd: SGD,
    seed: int,
    track: Track = silent,
) -> list[LinearClassifiers]:
    """Return the trained classifiers of each subset of rows.

    The order of the batches is a pure function of (seed, epoch, size of the subset).

    Args:
        features_at: Function from an epoch to all features (N, D), float32; called once per epoch, in order.
        labels: (N,) classes.
        subsets: One array of rows to train on per subset.
        learning_rates: Learning rates per subset; one classifier is trained per rate.
        sgd: Settings of the training.
        seed: Seed of the order of the batches.
        track: Display of progress.

    Raises:
        NonFiniteError: Features hold NaN or infinity.
    """
    trained: list[LinearClassifiers] = []
    title = "linear probe: choose rates" if max(map(len, learning_rates)) > 1 else "linear probe"
    with track(title, sgd.epochs, "epochs") as advance:
        for epoch in range(sgd.epochs):
            features = features_at(epoch)
            require_finite(features, "linear probe", "training")
            if not trained:
                width, classes = features.shape[1], int(labels.max()) + 1
                trained = [LinearClassifiers(width, classes, rates, sgd, features) for rates in learning_rates]
                one_hot = torch.eye(classes, dtype=features.dtype, device=features.device)[_tensor(labels, features)]
            for classifiers, rows in zip(trained, subsets, strict=True):
                order = permutation(seed, "linear probe", epoch, length=len(rows))
                for batch in torch.split(_tensor(rows[order], features), sgd.batch_size):
                    classifiers.step(features[batch], one_hot[batch], epoch / sgd.epochs)
            advance(1)
    return trained


def accuracies(trained: list[LinearClassifiers], features: Tensor, labels: Labels) -> list[float]:
    """Return the accuracy in percent of each classifier on test features (M, D); each has one learning rate.

    Raises:
        NonFiniteError: Features hold NaN or infinity, or the weights of a classifier diverged.
    """
    require_finite(features, "linear probe", "test")
    found = []
    for classifiers in trained:
        (accuracy,) = classifiers.accuracy(features, _tensor(labels, features))
        if accuracy is None:
            raise _diverged(classifiers)
        found.append(accuracy)
    return found


def _diverged(classifiers: LinearClassifiers) -> NonFiniteError:
    rates = ", ".join(f"{rate:g}" for rate in classifiers.learning_rates)
    return NonFiniteError(
        f"linear probe: the weights hold NaN or infinity after training with learning rate {rates}: "
        "give smaller evaluation.linear.learning_rates"
    )


def _tensor(array: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.tensor(array, device=like.device)
