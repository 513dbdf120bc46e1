"""Nuisance probe: the variance of light, pose or background that a linear model predicts from the features.

A good encoder of classes ignores attributes that are independent of the class, so lower is better. The model is a ridge
regression on standardized features, whose penalty is chosen on held-out training images.

There are two traps. Compare only encoders of equal width, since a linear model predicts more from more dimensions.
Rotated features score a little differently: least squares is invariant to a rotation, but the penalty is not, because
standardizing depends on the axes.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl.errors import DataError
from fgssl.evaluation.features import require_finite
from fgssl.evaluation.splits import grouped_split

Attributes = Mapping[str, NDArray[np.float64]]
"""Values (N,) of each attribute by its name."""

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(8, -13, -1))
"""Candidate penalties per training image, 10,000 down to 1e-6. For scale: the mean eigenvalue of the features'
correlation matrix is 1."""
VALIDATION_FRACTION = 0.2
MOST_CATEGORIES = 8
"""Largest number of distinct values, all integers, with which an attribute counts as a category."""


def nuisance_probe(
    train_features: Tensor,
    train_attributes: Attributes,
    train_groups: NDArray[np.int64],
    test_features: Tensor,
    test_attributes: Attributes,
    nuisances: Mapping[str, Sequence[str]],
    seed: int,
) -> dict[str, float]:
    """Return the explained variance R^2 of attributes on the test images, as predicted from the features.

    R^2 is 1 - squared error / squared distance to the test mean; it is negative if the model is worse than that mean.
    For a category both terms are summed over its one-hot columns.

    Args:
        train_features: (N, D), any floating-point type; the regression is computed in float64.
        train_attributes: Attributes of the train images, (N,) each.
        train_groups: (N,) groups; a group is held out as a whole or not at all.
        test_features: (M, D), on the device of `train_features`.
        test_attributes: Attributes of the test images, (M,) each.
        nuisances: Names of attributes by the name of the result, e.g. {"light": ["brightness", "warmth"]}.
        seed: Seed of the choice of held-out images.

    Returns:
        `nuisance_<name>` in percent: the mean of R^2 over the attributes of that name.

    Raises:
        DataError: An attribute is constant or not finite, or all train images are of one group.
        NonFiniteError: Features hold NaN or infinity.
    """
    check_attributes(nuisances, train_attributes, test_attributes)
    fitted, validated = validation_split(train_groups, seed)
    require_finite(train_features, "nuisance probe", "training")
    require_finite(test_features, "nuisance probe", "test")
    train, test = train_features.double(), test_features.double()
    names = list(dict.fromkeys(name for listed in nuisances.values() for name in listed))
    values = {name: np.unique(np.concatenate([train_attributes[name], test_attributes[name]])) for name in names}
    train_targets, test_targets = (
        [_targets(attributes[name], values[name], train) for name in names]
        for attributes in (train_attributes, test_attributes)
    )
    score = dict(zip(names, _scores(train, train_targets, fitted, validated, test, test_targets), strict=True))
    return {f"nuisance_{name}": float(np.mean([score[each] for each in listed])) for name, listed in nuisances.items()}


def check_attributes(nuisances: Mapping[str, Sequence[str]], train: Attributes, test: Attributes) -> None:
    """Raise a `DataError` that lists every attribute of `nuisances` that is constant or not finite in a split."""
    faults = [
        f"evaluation.nuisances.{key}: attribute {name}: {fault}"
        for key, names in nuisances.items()
        for name in names
        for fault in _faults(train[name], test[name])
    ]
    if faults:
        raise DataError("\n".join(faults))


def _faults(train: NDArray[np.float64], test: NDArray[np.float64]) -> Iterable[str]:
    for split, values in (("training", train), ("test", test)):
        if not np.isfinite(values).all():
            yield f"values of the {split} images are NaN or infinite: correct and pack them again, or remove it"
        elif values.min() == values.max():
            yield f"all {len(values)} {split} images have the value {values[0]:g}, so nothing varies: remove it"


def validation_split(groups: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (rows to fit on, rows held out) of the groups (N,), whatever their class.

    Raises:
        DataError: All images are of one group.
    """
    fitted, validated = grouped_split(np.zeros_like(groups), groups, VALIDATION_FRACTION, seed)
    if not len(validated):
        raise DataError(
            f"evaluation.nuisances: the {len(groups)} training images are all of one group, so none can be held out "
            "to choose a penalty: pack images of several groups, or leave evaluation.nuisances empty"
        )
    return fitted, validated


def _targets(attribute: NDArray[np.float64], values: NDArray[np.float64], like: Tensor) -> Tensor:
    """Return the attribute (N,) as one column (N, 1), or as one-hot columns (N, A) if it is a category.

    `values` (A,) are the distinct values of the attribute in both splits.
    """
    if len(values) <= MOST_CATEGORIES and (values == np.round(values)).all():
        columns = (attribute[:, None] == values).astype(np.float64)
    else:
        columns = attribute[:, None]
    return torch.tensor(columns, dtype=like.dtype, device=like.device)


def _scores(
    train: Tensor,
    train_targets: Sequence[Tensor],
    fitted: NDArray[np.int64],
    validated: NDArray[np.int64],
    test: Tensor,
    test_targets: Sequence[Tensor],
) -> list[float]:
    """Return the R^2 of each attribute in percent, at the penalty of least error on the held-out rows.

    Among equally good penalties the largest is taken.
    """
    rows, held_out = (torch.tensor(part, device=train.device) for part in (fitted, validated))
    widths = torch.tensor([targets.shape[1] for targets in train_targets], device=train.device)
    targets, truth = torch.cat(list(train_targets), dim=1), torch.cat(list(test_targets), dim=1)  # (N, A), (M, A)

    def by_attribute(residuals: Tensor) -> Tensor:
        return torch.stack([columns.sum() for columns in (residuals**2).sum(dim=0).split(widths.tolist())])

    tried = Ridge(train[rows], targets[rows])
    penalties = train.new_tensor(PENALTIES)
    errors = [by_attribute(tried.predict(train[held_out], penalty) - targets[held_out]) for penalty in penalties]
    best = penalties[torch.stack(errors).argmin(dim=0)]  # one per attribute, the first of those that tie
    predicted = Ridge(train, targets).predict(test, best.repeat_interleave(widths))
    unexplained, total = by_attribute(predicted - truth), by_attribute(truth - truth.mean(dim=0))
    return (100 * (1 - unexplained / total)).tolist()


class Ridge:
    """Ridge regression of targets (N, A) on features (N, D) with an intercept, solved once for all penalties.

    It minimizes squared error + penalty * N * squared weights of the standardized features.
    """

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        """Factorize float64 features and targets on one device; a feature that is constant here gets no weight."""
        self._mean, self._target_mean = features.mean(dim=0), targets.mean(dim=0)
        constant = features.amax(dim=0) == features.amin(dim=0)  # by value: rounding may leave its std above 0
        self._std = features.std(dim=0, correction=0).masked_fill(constant, torch.inf)
        standardized = self._standardized(features)
        # X^T X = V diag(e) V^T once; (X^T X + p)^-1 = V diag(1 / (e + p)) V^T for every penalty p.
        eigenvalues, self._vectors = torch.linalg.eigh(standardized.T @ standardized / len(features))
        self._eigenvalues = eigenvalues.clamp(min=0)  # (D,)
        covariance = standardized.T @ (targets - self._target_mean) / len(features)
        self._projected = self._vectors.T @ covariance  # (D, A)

    def predict(self, features: Tensor, penalty: Tensor) -> Tensor:
        """Return predicted targets (M, A) for features (M, D); `penalty` is a scalar, or (A,) with one per target."""
        weights = self._vectors @ (self._projected / (self._eigenvalues[:, None] + penalty))
        return self._target_mean + self._standardized(features) @ weights

    def _standardized(self, features: Tensor) -> Tensor:
        return (features - self._mean) / self._std
