"""Features and a trained classifier -> its accuracy."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fgssl.errors import DataError, NonFiniteError


@torch.inference_mode()
def accuracy(classifier: nn.Module, features: Tensor, labels: NDArray[np.int64]) -> dict[str, float]:
    """Return the percent `accuracy` of test features (M, D) whose largest logit is at their label (M,).

    `classifier` takes features to logits (M, C); it is put on their device and into evaluation mode. Raises `DataError`
    for labels that it has no logit for, `NonFiniteError` for logits that are not finite.
    """
    logits = classifier.to(features.device).eval()(features)
    if not torch.isfinite(logits).all():
        raise NonFiniteError("accuracy: the classifier's logits of the test images hold values that are not finite")
    if labels.max() >= logits.shape[1]:
        raise DataError(
            f"accuracy: the trained classifier has {logits.shape[1]} classes, the test labels go up to {labels.max()}; "
            "set evaluation.label_level to the level it was trained on (method.level)"
        )
    correct = logits.argmax(dim=1) == torch.tensor(labels, device=logits.device)
    return {"accuracy": 100 * int(correct.sum()) / len(labels)}
