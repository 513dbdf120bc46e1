"""Every method learns a handful of images by heart, in seconds."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.records import Batch
from fgssl.training.step import accumulate_gradient

IMAGES = 16


def blotches() -> Batch:
    """Soft blotches of colour; their two views differ in a little pixel noise."""
    original = F.interpolate(torch.randn(IMAGES, 3, 4, 4), size=16, mode="bilinear")
    first, second = original + 0.1 * torch.randn_like(original), original + 0.1 * torch.randn_like(original)
    return Batch(0, torch.arange(IMAGES), (first, second), original)


def margin(query: Tensor, key: Tensor) -> float:
    """Cosine to the own key less that to the nearest other, mean over images."""
    cosines = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T
    others = cosines.masked_fill(torch.eye(IMAGES, dtype=torch.bool), -1).amax(dim=1)
    return float((cosines.diagonal() - others).mean())


@pytest.mark.parametrize("variant", ["none", "both"])
def test_overfits(variant: str, tiny_method: Callable[..., Any]) -> None:
    method = tiny_method(
        f"method.noise.variant={variant}",
        "method.base.queue_size=16",
        "training.global_batch_size=16",
    )
    batch = blotches()
    if variant != "none":
        assert batch.original is not None
        method.fill_bank([batch.original])
    optimizer = torch.optim.SGD(method.trained_parameters(), lr=0.1, momentum=0.9)
    margins, errors = [], []
    for _ in range(150):
        optimizer.zero_grad()
        output, rows, keys = accumulate_gradient(method, batch, IMAGES, 0, lambda loss: loss.backward(), nullcontext)
        optimizer.step()
        method.after_step(rows, keys)
        assert keys is not None
        margins.append(margin(rows["query"], keys))
        errors.append(float(output.metrics.get("reconstruction_error", 0.0)))
    assert margins[0] < 0.1
    assert margins[-1] > 0.2
    if variant != "none":
        assert errors[-1] < 0.6 * errors[0]
