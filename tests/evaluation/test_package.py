"""Names that the package exports, and side effects of its import."""

import subprocess
import sys

import pytest
import torch

import fgssl.evaluation
from fgssl.errors import DataError
from fgssl.evaluation import outliers, retrieval, weighted_knn


def test_measures_are_offered() -> None:
    features, labels = torch.eye(2).repeat(2, 1), torch.tensor([0, 1, 0, 1])
    assert outliers(features, labels, features, labels) == 0
    assert retrieval(features, labels)["rank1"] == 100.0
    assert weighted_knn(features, labels, features.numpy(), labels.numpy(), neighbors=2) == 100.0
    assert {"outliers", "retrieval", "weighted_knn"} <= set(dir(fgssl.evaluation))
    assert fgssl.evaluation.__all__ == ["outliers", "retrieval", "weighted_knn"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rank'"):
        fgssl.evaluation.rank  # noqa: B018


def test_settings_and_columns_import_no_torch() -> None:
    code = """
import sys
import fgssl.evaluation
from fgssl.settings.evaluation import EvaluationSettings
assert len(EvaluationSettings().columns) == 15
dir(fgssl.evaluation)
assert "torch" not in sys.modules
from fgssl.evaluation import *
assert "torch" in sys.modules
print(outliers.__name__, retrieval.__name__, weighted_knn.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("outliers retrieval weighted_knn\n", "")


LABELS = torch.arange(10) % 5
FEATURES = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("labels", [LABELS[:, None], LABELS[:1], LABELS.repeat(2)], ids=["(N, 1)", "one", "too many"])
def test_labels_of_another_shape_are_refused(labels: torch.Tensor) -> None:
    """They would broadcast: 1000 % of the images right, or more outliers than images."""
    for measured in (
        lambda: outliers(FEATURES, LABELS, FEATURES, labels),
        lambda: outliers(FEATURES, labels, FEATURES, LABELS),
        lambda: retrieval(FEATURES, labels),
        lambda: weighted_knn(FEATURES, LABELS, FEATURES, labels, neighbors=2),
        lambda: weighted_knn(FEATURES, labels, FEATURES, LABELS, neighbors=2),
    ):
        with pytest.raises(ValueError, match="one label per image"):
            measured()


def test_a_vote_that_cannot_be_held_is_refused() -> None:
    with pytest.raises(ValueError, match="neighbors 11: must be from 1 to the number of training images, 10"):
        weighted_knn(FEATURES, LABELS, FEATURES, LABELS, neighbors=11)
    with pytest.raises(ValueError, match=r"temperature -0\.1: must be at least 1e-30"):
        weighted_knn(FEATURES, LABELS, FEATURES, LABELS, neighbors=2, temperature=-0.1)
    with pytest.raises(DataError, match="kNN: there are no test images"):
        weighted_knn(FEATURES, LABELS, FEATURES[:0], LABELS[:0], neighbors=2)
