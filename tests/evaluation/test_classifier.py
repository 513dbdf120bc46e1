"""Accuracy of a trained classifier."""

import numpy as np
import pytest
import torch
from torch import nn

from fgssl.errors import DataError, NonFiniteError
from fgssl.evaluation.classifier import predictions


def test_counts_the_largest_logits() -> None:
    classifier = nn.Linear(2, 3, bias=False)
    classifier.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    features = torch.tensor([[3.0, 1.0], [1.0, 3.0], [-1.0, -2.0], [2.0, 1.0]])
    assert predictions(classifier, features, np.array([0, 1, 2, 1])).tolist() == [0, 1, 2, 0]


def test_the_classifier_is_in_evaluation_mode() -> None:
    random = nn.Sequential(nn.Dropout(0.999), nn.Linear(4, 4, bias=False)).train()
    random[1].weight.data = torch.eye(4)
    assert predictions(random, torch.eye(4), np.arange(4)).tolist() == [0, 1, 2, 3]


def test_errors() -> None:
    with pytest.raises(DataError, match=r"has 2 classes, but the test labels go up to 4: set evaluation.label_level"):
        predictions(nn.Linear(3, 2), torch.eye(3), np.array([0, 4, 1]))
    with pytest.raises(NonFiniteError, match="logits of the test images"):
        predictions(nn.Identity(), torch.full((2, 2), torch.nan), np.array([0, 1]))
