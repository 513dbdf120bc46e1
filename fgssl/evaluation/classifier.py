"""Accuracy of a classifier that was trained with the encoder."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fgssl.errors import DataError, NonFiniteError

IMAGES_AT_ONCE = 1024
"""Images whose logits are held in memory; no result depends on it beyond rounding."""


@torch.inference_mode()
def predictions(classifier: nn.Module, features: Tensor, labels: NDArray[np.int64]) -> Tensor:
    """Return the class (M,) of the largest logit of each test feature.

    Args:
        classifier: Module from features (M, D) to logits (M, C). It is moved to the device of `features` and put into
            evaluation mode.
        features: (M, D) test features, of the classifier's type.
        labels: (M,) true classes, below C.

    Raises:
        DataError: A label is C or above.
        NonFiniteError: Logits hold NaN or infinity.
    """
    classifier.to(features.device).eval()
    predicted = []
    for chunk in features.split(IMAGES_AT_ONCE):
        logits = classifier(chunk)
        if not torch.isfinite(logits).all():
            raise NonFiniteError("accuracy: the classifier's logits of the test images hold NaN or infinity")
        if labels.max() >= logits.shape[1]:
            raise DataError(
                f"accuracy: the trained classifier has {logits.shape[1]} classes, but the test labels go up to "
                f"{labels.max()}: set evaluation.label_level to the level that it was trained on (method.level)"
            )
        predicted.append(logits.argmax(dim=1))
    return torch.cat(predicted)
