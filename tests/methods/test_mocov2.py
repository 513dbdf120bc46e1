"""MoCo v2: EMA, queue, keys and their shuffling, each against its definition."""

import collections
import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fgssl import losses, randomness
from fgssl.batch import Batch
from fgssl.methods.mocov2 import MoCoV2
from tests.one_process import accumulate_gradient, global_target

GROUP = 16  # of BatchNorm, in the tiny config


@pytest.fixture
def moco(tiny_method: Callable[..., Any]) -> MoCoV2:
    method = tiny_method("method.noise.variant=none")
    assert isinstance(method, MoCoV2)
    return method


def backward(loss: torch.Tensor) -> None:
    loss.backward()


def test_the_key_networks_start_as_copies_of_the_trained_ones(moco: MoCoV2) -> None:
    pairs = [(moco.encoder, moco.key_encoder), (moco.head, moco.key_head)]
    for online, key in pairs:
        for name, value in online.state_dict().items():
            assert torch.equal(value, key.state_dict()[name])
            assert value.data_ptr() != key.state_dict()[name].data_ptr()


def test_the_moving_average_has_its_closed_form(moco: MoCoV2) -> None:
    """k_n = m^n k_0 + (1 - m) sum_i m^(n-i) q_i; the moving average is no part of BatchNorm's statistics."""
    momentum, steps = moco.settings.momentum, 4
    keys = [*moco.key_encoder.parameters(), *moco.key_head.parameters()]
    online = [*moco.encoder.parameters(), *moco.head.parameters()]
    expected = [momentum**steps * key.clone() for key in keys]
    buffers = {name: buffer.clone() for name, buffer in moco.key_encoder.named_buffers()}
    for step in range(1, steps + 1):
        with torch.no_grad():
            for index, parameter in enumerate(online):
                parameter.normal_()
                expected[index] += (1 - momentum) * momentum ** (steps - step) * parameter
        moco.after_step({}, torch.randn(32, 8), 0.0)
    torch.testing.assert_close(keys, expected, check_stride=False)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in moco.key_encoder.named_buffers())


def test_the_queue_wraps_around_as_a_deque_of_keys(moco: MoCoV2) -> None:
    assert len(moco.queue) == 128
    torch.testing.assert_close(moco.queue.norm(dim=1), torch.ones(128))
    expected = collections.deque(moco.queue.clone(), maxlen=128)  # oldest first
    for _ in range(11):
        keys = torch.randn(32, 8)
        moco.after_step({}, keys, 0.0)
        expected.extend(keys)
        oldest = int(moco.queue_position)
        found = torch.cat([moco.queue[oldest:], moco.queue[:oldest]])
        assert torch.equal(found, torch.stack(list(expected)))


def test_the_loss_is_against_the_queue_of_past_steps(moco: MoCoV2, random_batch: Callable[..., Batch]) -> None:
    """A step's own keys join the queue after its loss."""
    batch, queue = random_batch(), moco.queue.clone()
    output, online, keys = accumulate_gradient(moco, batch, 32, 0)
    assert keys is not None
    assert torch.equal(moco.queue, queue)
    torch.testing.assert_close(output.loss.detach(), losses.info_nce_per_row(online["query"], keys, queue, 0.2).mean())
    moco.after_step(online, keys, 0.0)
    assert torch.equal(moco.queue[:32], keys)
    assert torch.equal(moco.queue[32:], queue[32:])


def test_the_first_loss_is_near_the_log_of_the_candidates(moco: MoCoV2, random_batch: Callable[..., Batch]) -> None:
    output, _, _ = accumulate_gradient(moco, random_batch(), 32, 0)
    assert 0.4 * math.log(1 + 128) < output.loss.item() < 1.5 * math.log(1 + 128)


def test_only_the_online_networks_learn(moco: MoCoV2, random_batch: Callable[..., Batch]) -> None:
    _, _, keys = accumulate_gradient(moco, random_batch(), 32, 0)
    online = [*moco.encoder.parameters(), *moco.head.parameters()]
    assert all(parameter.grad is not None for parameter in online)
    for network in (moco.encoder, moco.head):
        assert next(network.parameters()).grad.abs().max() > 0  # type: ignore[union-attr]
    assert all(p.grad is None for p in [*moco.key_encoder.parameters(), *moco.key_head.parameters()])
    assert keys is not None
    assert not keys.requires_grad
    assert {id(p) for p in moco.trained_parameters()} == {id(p) for p in online}


def test_keys_are_made_in_shuffled_groups_and_put_back_in_order(
    moco: MoCoV2, random_batch: Callable[..., Batch]
) -> None:
    batch = random_batch(step=5)
    plain = nn.Sequential(copy.deepcopy(moco.key_encoder), copy.deepcopy(moco.key_head))
    order = randomness.permutation(3, "key_shuffle", 5, length=32).tolist()
    assert order != sorted(order)
    expected: dict[int, torch.Tensor] = {}
    for start in range(0, 32, GROUP):  # one BatchNorm group at a time
        images = order[start : start + GROUP]
        for image, key in zip(images, plain(batch.views[1][images]), strict=True):
            expected[image] = F.normalize(key, dim=0)
    keys = global_target(moco, batch, 32, 3)
    assert keys is not None
    torch.testing.assert_close(keys, torch.stack([expected[image] for image in range(32)]))
    unshuffled = torch.cat([plain(views) for views in batch.views[1].split(GROUP)])
    assert not torch.allclose(keys, F.normalize(unshuffled, dim=1), atol=1e-3)  # the groups do matter
    torch.testing.assert_close(global_target(moco, batch, GROUP, 3), keys)


def test_what_synthesized_pairs_ask_for_are_the_two_losses_at_the_methods_temperature(
    tiny_method: Callable[..., Any],
) -> None:
    moco = tiny_method("method.noise.variant=none", "method.base.temperature=0.5")
    features, others, keys = torch.randn(6, 16), torch.randn(6, 16), torch.randn(6, 8)
    projections = moco.head(features)
    expected = losses.info_nce_per_row(projections, keys, moco.queue, 0.5)
    torch.testing.assert_close(moco.contrast(features, {}, keys), expected, rtol=0, atol=0)
    expected = losses.nt_xent(projections, moco.head(others), 0.5)
    found = moco.pair_loss(moco.pair_embeddings(features, others), 0.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_start_is_a_function_of_the_seed(tiny_method: Callable[..., Any]) -> None:
    states = [tiny_method("method.noise.variant=none", f"seed={seed}").state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    for key in ("queue", "encoder.conv1.0.weight", "head.0.weight"):
        assert not torch.equal(states[0][key], states[2][key])
