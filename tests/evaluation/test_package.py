"""Names that the package exports, and side effects of its import."""

import subprocess
import sys

import pytest
import torch

import fgssl.evaluation
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
assert len(EvaluationSettings().columns) == 6
dir(fgssl.evaluation)
assert "torch" not in sys.modules
from fgssl.evaluation import *
assert "torch" in sys.modules
print(outliers.__name__, retrieval.__name__, weighted_knn.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("outliers retrieval weighted_knn\n", "")
