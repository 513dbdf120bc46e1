"""Measures hold no matrix of images x classes, nor of all pairs of images."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fgssl.evaluation import centroids, classifier, cosine, linear, scaling
from fgssl.evaluation.centroids import outliers
from fgssl.evaluation.knn import weighted_knn
from fgssl.evaluation.linear import SGD, best_learning_rates
from fgssl.evaluation.ranking import retrieval
from fgssl.evaluation.scaling import Scaling

IMAGES, CLASSES, WIDTH, AT_ONCE = 1000, 400, 4, 32
LABELS = np.arange(IMAGES) % CLASSES
FEATURES = torch.randn(IMAGES, WIDTH, generator=torch.Generator().manual_seed(0))


class Largest(TorchDispatchMode):
    """Record of the number of elements of the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


def probe() -> None:
    rows = np.arange(IMAGES)
    sgd = SGD(1, AT_ONCE, 0.9, 0.0, ())
    best_learning_rates(FEATURES, LABELS, [(rows, rows)], (1.0, 2.0), sgd, 0, scaling=Scaling.of(FEATURES))


@pytest.mark.parametrize(
    "measure",
    [
        probe,
        lambda: weighted_knn(FEATURES, LABELS, FEATURES, LABELS, neighbors=20),
        lambda: retrieval(FEATURES, LABELS),
        lambda: outliers(FEATURES, LABELS, FEATURES, LABELS),
        lambda: classifier.predictions(torch.nn.Linear(WIDTH, CLASSES), FEATURES, LABELS),
    ],
    ids=["probe", "knn", "retrieval", "outliers", "classifier"],
)
def test_the_largest_tensor_is_a_chunk(measure: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosine, "PAIRS_AT_ONCE", AT_ONCE * IMAGES)
    monkeypatch.setattr(linear, "LOGITS_AT_ONCE", AT_ONCE * CLASSES * 2)
    for module in (centroids, classifier, linear, scaling):
        monkeypatch.setattr(module, "IMAGES_AT_ONCE", AT_ONCE)
    with Largest() as largest:
        measure()
    assert 0 < largest.elements <= AT_ONCE * max(IMAGES, 2 * CLASSES)  # against IMAGES * CLASSES and IMAGES squared
