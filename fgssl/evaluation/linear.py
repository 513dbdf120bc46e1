"""Accuracy of a linear classifier on frozen features, at several shares of the labels.

The protocol follows MoCo's (He et al. 2020, Sec. 4.1): softmax regression by SGD with momentum. The learning rate is
lowered at each milestone (two by default). Unlike MoCo's, it can be chosen on held-out training images. MoCo neither
centers nor scales features, which explains its unusual learning rate of 30. A gradient step depends on their scale, so
encoders are compared fairly only if a `Scaling` gives all features the same one. The weights start at zero: the problem
is convex, so a random start would add nothing.

No matrix of images x classes is ever held: batches and chunks bound the memory, whatever the number of images is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl.errors import DataError, NonFiniteError
from fgssl.evaluation.features import require_finite
from fgssl.evaluation.scaling import Scaling
from fgssl.evaluation.splits import Rows, grouped_split, stratified_subset
from fgssl.progress import Track, silent
from fgssl.randomness import permutation

Labels = NDArray[np.int64]
"""(N,) class of each image."""
LOGITS_AT_ONCE = 2**24
"""Largest number of logits of a chunk of images, 64 MiB; no result depends on it beyond rounding."""
IMAGES_AT_ONCE = 4096
"""Most images of such a chunk, whose features are copied."""


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

    def __init__(
        self, classes: int, learning_rates: Sequence[float], sgd: SGD, like: Tensor, scaling: Scaling | None = None
    ) -> None:
        """Start at zero weights for C classes and features of the width D, type and device of `like` (N, D).

        `scaling` is applied to all features that are given; None leaves them as they are.
        """
        self.learning_rates = tuple(learning_rates)
        self.classes, self._sgd, self._scaling = classes, sgd, scaling
        width = like.shape[1]
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
        return self._logits(self._scaled(features))

    def _scaled(self, features: Tensor) -> Tensor:
        return features if self._scaling is None else self._scaling(features)

    def _logits(self, features: Tensor) -> Tensor:
        return torch.addmm(self._bias, features, self._weight).view(len(features), -1, self.classes)

    def step(self, features: Tensor, targets: Tensor, progress: float) -> None:
        """Take one step of SGD on features (B, D) and their classes (B,).

        `progress` in [0, 1) is the share of training done; it decides which milestones have lowered the learning rate.
        """
        sgd, features = self._sgd, self._scaled(features)
        residual = self._logits(features).softmax(dim=2)
        residual[torch.arange(len(targets), device=targets.device), :, targets] -= 1
        residual = residual.div_(len(features)).flatten(1)
        self._weight_momentum.addmm_(features.T, residual, beta=sgd.momentum)
        self._bias_momentum.mul_(sgd.momentum).add_(residual.sum(dim=0))
        if sgd.weight_decay:
            self._weight_momentum.add_(self._weight, alpha=sgd.weight_decay)
            self._bias_momentum.add_(self._bias, alpha=sgd.weight_decay)
        scale = 0.1 ** sum(progress >= milestone for milestone in sgd.milestones)
        self._weight.addcmul_(self._weight_momentum, self._rates, value=-scale)
        self._bias.addcmul_(self._bias_momentum, self._rates, value=-scale)

    def predict(self, features: Tensor, rows: Tensor) -> list[Tensor | None]:
        """Return the class (M,) that each classifier predicts for `rows` (M,) of features; None for one that diverged.

        Features are (N, D).
        """
        chunk = max(1, min(IMAGES_AT_ONCE, LOGITS_AT_ONCE // len(self._bias)))
        predicted = torch.cat([self.logits(features[part]).argmax(dim=2) for part in rows.split(chunk)])  # (M, R)
        finite = torch.isfinite(self._weight.sum(dim=0) + self._bias).view(-1, self.classes).all(dim=1)
        return [each if converged else None for each, converged in zip(predicted.T, finite.tolist(), strict=True)]


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
    scaling: Scaling | None = None,
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
        scaling: Scaling of the features, if any.

    Raises:
        NonFiniteError: Features hold NaN or infinity, or every candidate diverges.
    """
    rates, targets, best = sorted(set(learning_rates)), _tensor(labels, features), []
    for fitted, held_out in splits:  # one after another, because the weights of all rates take the most memory
        (candidates,) = fit(lambda epoch: features, labels, [fitted], [rates], sgd, seed, track, scaling)
        rows = _tensor(held_out, features)
        predicted = candidates.predict(features, rows)
        scored = [
            (int((each == targets[rows]).sum()), -rate)
            for each, rate in zip(predicted, rates, strict=True)
            if each is not None
        ]
        if not scored:
            raise _diverged(candidates)
        best.append(-max(scored)[1])
    return best


def fit(
    features_at: Callable[[int], Tensor],
    labels: Labels,
    subsets: list[Rows],
    learning_rates: Sequence[Sequence[float]],
    sgd: SGD,
    seed: int,
    track: Track = silent,
    scaling: Scaling | None = None,
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
        scaling: Scaling of the features, if any.

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
                classes, targets = int(labels.max()) + 1, _tensor(labels, features)
                trained = [LinearClassifiers(classes, rates, sgd, features, scaling) for rates in learning_rates]
            for classifiers, rows in zip(trained, subsets, strict=True):
                order = permutation(seed, "linear probe", epoch, length=len(rows))
                for batch in torch.split(_tensor(rows[order], features), sgd.batch_size):
                    classifiers.step(features[batch], targets[batch], epoch / sgd.epochs)
            advance(1)
    return trained


def predictions(trained: list[LinearClassifiers], features: Tensor) -> list[Tensor]:
    """Return the class (M,) that each classifier, which has one rate, predicts for test features (M, D).

    Raises:
        NonFiniteError: Features hold NaN or infinity, or the weights of a classifier diverged.
    """
    require_finite(features, "linear probe", "test")
    rows = torch.arange(len(features), device=features.device)
    found = []
    for classifiers in trained:
        (predicted,) = classifiers.predict(features, rows)
        if predicted is None:
            raise _diverged(classifiers)
        found.append(predicted)
    return found


def _diverged(classifiers: LinearClassifiers) -> NonFiniteError:
    rates = ", ".join(f"{rate:g}" for rate in classifiers.learning_rates)
    return NonFiniteError(
        f"linear probe: the weights hold NaN or infinity after training with learning rate {rates}: "
        "give smaller evaluation.linear.learning_rates"
    )


def _tensor(array: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.tensor(array, device=like.device)
