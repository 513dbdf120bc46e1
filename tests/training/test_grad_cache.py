"""A global batch in micro-batches equals the global batch: loss, gradients and running statistics."""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from fgssl.batch import Batch
from fgssl.methods.byol import BYOL
from tests.one_process import accumulate_gradient, global_target


def in_precision(batch: Batch, dtype: torch.dtype) -> Batch:
    assert batch.original is not None
    views = tuple(view.to(dtype) for view in batch.views)
    return dataclasses.replace(batch, views=views, original=batch.original.to(dtype))


BEFORE_BATCH_NORM = {"head.0.bias", "head.3.bias", "predictor.0.bias"}
"""BYOL's biases before a BatchNorm, which cancels them: their gradient is 0 up to rounding."""


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_micro_batches_change_nothing(
    every_method: tuple[str, ...],
    dtype: torch.dtype,
    tolerance: float,
    tiny_method: Callable[..., Any],
    random_batch: Callable[..., Batch],
) -> None:
    batch = in_precision(random_batch(step=4, images=64), dtype)
    losses, gradients, states, metrics = [], [], [], []
    for shard_size in (64, 32):
        method = tiny_method(*every_method).to(dtype)
        originals = in_precision(random_batch(step=9, images=64), dtype).original.split(16)  # type: ignore[union-attr]
        method.prepare(lambda number: originals)  # noqa: B023
        output, online, target = accumulate_gradient(method, batch, shard_size, seed=0)
        gradients.append({name: p.grad for name, p in method.named_parameters() if p.grad is not None})
        method.after_step(online, target, 0.5)
        losses.append(output.loss.item())
        metrics.append(output.metrics)
        states.append(dict(method.named_buffers()))
        assert output.loss.dtype == dtype
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
    assert gradients[0].keys() == gradients[1].keys()
    without_gradient = BEFORE_BATCH_NORM if any(isinstance(one, BYOL) for one in method.modules()) else set()
    for name, whole in gradients[0].items():
        scale = (
            0.1 if name.removeprefix("base.").removeprefix("aligned.") in without_gradient else max(whole.norm(), 1e-3)
        )
        assert (gradients[1][name] - whole).norm() <= tolerance * scale, name
    assert any(name.endswith("running_var") for name in states[0])
    for name, buffer in states[0].items():  # running statistics, queue, bank
        torch.testing.assert_close(states[1][name], buffer, rtol=tolerance, atol=tolerance)
    for name, value in metrics[0].items():
        torch.testing.assert_close(metrics[1][name], value, rtol=max(tolerance, 1e-6), atol=1e-6)


def test_running_statistics_move_once_a_step(
    tiny_method: Callable[..., Any], random_batch: Callable[..., Batch]
) -> None:
    method = tiny_method("method.noise.variant=none")
    for step in range(3):
        batch = random_batch(step, images=64)
        accumulate_gradient(method, batch, 16, 0)
    counts = {int(buffer) for name, buffer in method.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {3}


def test_targets_come_back_in_the_order_of_the_batch(
    tiny_method: Callable[..., Any], random_batch: Callable[..., Batch]
) -> None:
    method = tiny_method("method.noise.variant=none").eval()  # in which an image's key is its own affair
    batch = random_batch(step=2, images=64)
    target = global_target(method, batch, 16, seed=0)
    assert target is not None
    assert not target.requires_grad
    torch.testing.assert_close(target, method.target(batch.views[1]))


def test_a_method_without_targets_has_none(tiny_method: Callable[..., Any], random_batch: Callable[..., Batch]) -> None:
    method = tiny_method("method={name: decoder}")
    assert global_target(method, random_batch(), 32, seed=0) is None


def test_half_precision_networks_give_a_single_precision_loss(
    tiny_method: Callable[..., Any], random_batch: Callable[..., Batch]
) -> None:
    def autocast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    losses = []
    for context in (nullcontext, autocast):
        method = tiny_method()
        method.prepare(lambda number: random_batch(step=9, images=64).original.split(16))  # type: ignore[union-attr]
        output, _, target = accumulate_gradient(method, random_batch(), 32, 0, context)
        assert target is not None
        assert output.loss.dtype == target.dtype == torch.float32
        assert all(value.dtype == torch.float32 for value in output.metrics.values())
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
        losses.append(output.loss.item())
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
