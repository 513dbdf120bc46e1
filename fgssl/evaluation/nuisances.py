"""Features and recorded attributes -> how well a linear model reads light, pose or background from the features.

What says nothing about the class, a good encoder of classes ignores: lower is better. Ridge regression on standardized
features, its penalty chosen on held-out training images.

Two traps. Compare encoders of equal width only: from more dimensions a linear model reads more. And rotated features
score a little differently: least squares would not notice, but the penalty treats the standardized axes alike, and
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
"""(N,) values of each attribute."""

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(8, -13, -1))
"""10,000 down to 1e-6, for each training image: the correlation matrix of the features has a mean eigenvalue of 1."""
VALIDATION_FRACTION = 0.2
MOST_CATEGORIES = 8
"""An attribute with at most so many different values, all integers, is a category."""


def nuisance_probe(
    train_features: Tensor,
    train_attributes: Attributes,
    train_groups: NDArray[np.int64],
    test_features: Tensor,
    test_attributes: Attributes,
    nuisances: Mapping[str, Sequence[str]],
    seed: int,
) -> dict[str, float]:
    """Return percent `nuisance_<name>`: R^2 on the test images, the mean over the attributes `nuisances[name]`.

    Features (N, D) and (M, D) on one device; whole `train_groups` (N,) are held out. R^2 is 1 - squared error /
    squared distance to the test mean, negative where the model does worse than that mean. Of a category both are sums
    over its one-hot columns. Raises `DataError` as `check_attributes`, `NonFiniteError` for features that are not
    finite.
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
    """Raise a `DataError` with every attribute of `nuisances` that has nothing to read."""
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
            yield f"values of the {split} images are not finite; mend them and pack again, or leave it out"
        elif values.min() == values.max():
            yield f"all {len(values)} {split} images have the value {values[0]:g}: nothing to read; leave it out"


def validation_split(groups: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (rows to fit on, rows held out), whatever their class; raise `DataError` where there is only one group."""
    fitted, validated = grouped_split(np.zeros_like(groups), groups, VALIDATION_FRACTION, seed)
    if not len(validated):
        raise DataError(
            f"evaluation.nuisances: the {len(groups)} training images are all of one group, so none can be held out "
            "to choose a penalty; pack images of several groups or leave evaluation.nuisances empty"
        )
    return fitted, validated


def _targets(attribute: NDArray[np.float64], values: NDArray[np.float64], like: Tensor) -> Tensor:
    """Return (N, A): the attribute, or one-hot columns of a category; `values` are all that it takes in both splits."""
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
    """Return percent R^2 of each attribute, at the penalty that suits it best; the largest of equals."""
    rows, held_out = (torch.tensor(part, device=train.device) for part in (fitted, validated))
    widths = torch.tensor([targets.shape[1] for targets in train_targets], device=train.device)
    targets, truth = torch.cat(list(train_targets), dim=1), torch.cat(list(test_targets), dim=1)  # (N, A), (M, A)

    def by_attribute(residuals: Tensor) -> Tensor:
        return torch.stack([columns.sum() for columns in (residuals**2).sum(dim=0).split(widths.tolist())])

    tried = Ridge(train[rows], targets[rows])
    penalties = train.new_tensor(PENALTIES)
    errors = [by_attribute(tried.predict(train[held_out], penalty) - targets[held_out]) for penalty in penalties]
    best = penalties[torch.stack(errors).argmin(dim=0)]  # one for each attribute, the first of equals
    predicted = Ridge(train, targets).predict(test, best.repeat_interleave(widths))
    unexplained, total = by_attribute(predicted - truth), by_attribute(truth - truth.mean(dim=0))
    return (100 * (1 - unexplained / total)).tolist()


class Ridge:
    """Ridge regression of targets (N, A) on features (N, D), with an intercept, for any number of penalties.

    Minimizes squared error + penalty * N * squared weights of the standardized features.
    """

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        """Both in double, on one device. A feature that never varies here is left out."""
        self._mean, self._target_mean = features.mean(dim=0), targets.mean(dim=0)
        constant = features.amax(dim=0) == features.amin(dim=0)  # by its values: its std may be off 0 by rounding
        self._std = features.std(dim=0, correction=0).masked_fill(constant, torch.inf)
        standardized = self._standardized(features)
        # X^T X = V diag(e) V^T once; (X^T X + p)^-1 = V diag(1 / (e + p)) V^T for every penalty p.
        eigenvalues, self._vectors = torch.linalg.eigh(standardized.T @ standardized / len(features))
        self._eigenvalues = eigenvalues.clamp(min=0)  # (D,)
        covariance = standardized.T @ (targets - self._target_mean) / len(features)
        self._projected = self._vectors.T @ covariance  # (D, A)

    def predict(self, features: Tensor, penalty: Tensor) -> Tensor:
        """Return (M, A) for features (M, D); `penalty` is one number, or (A,) one for each target."""
        weights = self._vectors @ (self._projected / (self._eigenvalues[:, None] + penalty))
        return self._target_mean + self._standardized(features) @ weights

    def _standardized(self, features: Tensor) -> Tensor:
        return (features - self._mean) / self._std
