"""LEWEL on BYOL and MoCo v2: its regions and its loss recomputed by hand, and what is moved after a step."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Batch
from fgssl.encoders.batch_norm import frozen_batch_norm_statistics
from fgssl.encoders.build import build_encoder
from fgssl.errors import SettingsError
from fgssl.methods.build import RANDOM_START, Parts
from fgssl.methods.lewel import LEWEL
from tests.conftest import EVERY_METHOD
from tests.one_process import accumulate_gradient, global_target

Make = Callable[..., Any]
GROUP = 16  # of BatchNorm, in the tiny config


def projected(head: nn.Sequential, rows: Tensor) -> Tensor:
    """Return a head's projections of rows (n, L, D), with BatchNorm over groups of n and all L, written out."""
    for layer in head:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            groups = []
            for group in rows.split(GROUP):
                flat = group.flatten(0, 1)
                scaled = (flat - flat.mean(0)) / (flat.var(0, correction=0) + layer.eps).sqrt()
                groups.append((scaled * layer.weight + layer.bias).view_as(group))
            rows = torch.cat(groups)
        else:
            rows = layer(rows)
    return rows


def regions_of(found: Tensor, head: nn.Sequential, groups: int) -> Tensor:
    """Return the features (n, M, D) of regions, one channel and one map at a time."""
    channels = found.shape[1]
    positions = found.flatten(2).transpose(1, 2)
    projections = F.normalize(projected(head, positions), dim=2)
    regions = projections.shape[2] // groups
    result = []
    for m in range(regions):
        of_channels = []
        for channel in range(channels):
            group = channel // (channels // groups)
            weights = projections[:, :, group * regions + m].softmax(dim=1)  # (n, H W)
            of_channels.append((weights * positions[:, :, channel]).sum(dim=1))
        result.append(torch.stack(of_channels, dim=1))
    return torch.stack(result, dim=1)


def distance(prediction: Tensor, target: Tensor) -> Tensor:
    return (F.normalize(prediction, dim=-1) - F.normalize(target, dim=-1)).square().sum(dim=-1).mean()


def assert_same_gradients(method: nn.Module, by_hand: nn.Module) -> None:
    for (name, parameter), other in zip(method.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


def maps_of(encoder: Any, view: Tensor) -> Tensor:
    found: Tensor = encoder.forward_features(view)
    return found


def test_on_byol_it_is_the_mean_of_two_losses(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method, batch = tiny_method(*EVERY_METHOD["lewel"]), random_batch()
    by_hand = copy.deepcopy(method)
    base, aligned = by_hand.base, by_hand.aligned
    assert method.regions == 2
    target = global_target(copy.deepcopy(method), batch, 32)
    assert target is not None
    slow = target.view(32, 3, 2, 8)  # image and two regions, of both views
    of_images, of_regions = torch.zeros(()), torch.zeros(())
    for view in (0, 1):
        found = maps_of(base.encoder, batch.views[view])
        prediction = base.predictor(base.head(found.mean(dim=(2, 3))))
        of_images = of_images + distance(prediction, slow[:, 0, 1 - view])
        rows = projected(aligned.head, regions_of(found, base.head, groups=4))
        of_regions = of_regions + distance(projected(aligned.predictor, rows), slow[:, 1:, 1 - view])
    (0.5 * of_images + 0.5 * of_regions).backward()
    output, _, _ = accumulate_gradient(method, batch, 32)
    torch.testing.assert_close(output.loss, 0.5 * of_images + 0.5 * of_regions)
    torch.testing.assert_close(output.metrics["loss_aligned"], of_regions.detach())
    assert_same_gradients(method, by_hand)


def test_the_targets_are_those_of_the_slow_networks(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method, batch = tiny_method(*EVERY_METHOD["lewel on mocov2"]).eval(), random_batch()
    with torch.no_grad():
        for network in (method.base.key_encoder, method.base.key_head, method.aligned.key_head):
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        found = maps_of(method.base.key_encoder, batch.views[1])
        of_images = F.normalize(method.base.key_head(found.mean(dim=(2, 3))), dim=1)
        of_regions = F.normalize(method.aligned.key_head(regions_of(found, method.base.key_head, groups=4)), dim=2)
    target = method.target(batch.views[1]).view(32, 3, 8)
    torch.testing.assert_close(target[:, 0], of_images)
    torch.testing.assert_close(target[:, 1:], of_regions)


def test_on_moco_regions_have_a_queue_of_their_own(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method, batch = tiny_method(*EVERY_METHOD["lewel on mocov2"], "method.aligned_weight=0.25"), random_batch()
    method.aligned.queue.copy_(F.normalize(torch.randn(128, 8)))
    by_hand = copy.deepcopy(method)
    output, online, target = accumulate_gradient(method, batch, 32)
    assert target is not None
    keys = target.view(32, 3, 8)
    found = maps_of(by_hand.encoder, batch.views[0])
    queries = by_hand.base.head(found.mean(dim=(2, 3)))
    rows = by_hand.aligned.head(regions_of(found, by_hand.base.head, groups=4))
    of_images = losses.info_nce_per_row(queries, keys[:, 0], by_hand.base.queue, 0.2).mean()
    of_regions = torch.stack(
        [losses.info_nce_per_row(rows[:, m], keys[:, 1 + m], by_hand.aligned.queue, 0.2).mean() for m in range(2)]
    ).mean()
    expected = 0.75 * of_images + 0.25 * of_regions
    expected.backward()
    torch.testing.assert_close(output.loss, expected)
    assert_same_gradients(method, by_hand)
    method.after_step(online, target, 0.0)
    torch.testing.assert_close(method.base.queue[:32], keys[:, 0])
    torch.testing.assert_close(method.aligned.queue[:32], (keys[:, 1] + keys[:, 2]) / 2)
    assert torch.equal(method.aligned.queue[32:], by_hand.aligned.queue[32:])


def test_all_slow_networks_follow(tiny_method: Make) -> None:
    method = tiny_method(*EVERY_METHOD["lewel"], "method.base.momentum=0.5")
    pairs = [
        (method.base.encoder, method.base.target_encoder),
        (method.base.head, method.base.target_head),
        (method.aligned.head, method.aligned.target_head),
    ]
    before = [[value.clone() for value in slow.parameters()] for _, slow in pairs]
    with torch.no_grad():
        for parameter in method.trained_parameters():
            parameter.add_(1)
    method.after_step({}, torch.randn(32, 3 * 16), 0.0)
    for (_, slow), old in zip(pairs, before, strict=True):
        for value, earlier in zip(slow.parameters(), old, strict=True):
            torch.testing.assert_close(value, earlier + 0.5, rtol=1e-5, atol=1e-5)


def test_without_weight_it_trains_its_base(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    lewel = tiny_method(*EVERY_METHOD["lewel"], "method.aligned_weight=0")
    byol = tiny_method(*EVERY_METHOD["byol"], "encoder.arguments.output_stride=8")
    byol.load_state_dict(lewel.base.state_dict())
    for method in (lewel, byol):
        accumulate_gradient(method, random_batch(), 32)
    for (name, one), other in zip(lewel.base.named_parameters(), byol.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    for (name, one), other in zip(lewel.base.named_buffers(), byol.buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_maps_leave_the_statistics_of_the_head(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method = tiny_method(*EVERY_METHOD["lewel"])
    with frozen_batch_norm_statistics(method):
        method.online(random_batch(), None)
    assert int(method.base.head[1].num_batches_tracked) == 0
    method.online(random_batch(), None)
    assert int(method.base.head[1].num_batches_tracked) == 2  # once for each view, by its pooled features


def test_groups_divide_widths_and_channels(tiny_config: Make, tiny_method: Make) -> None:
    with pytest.raises(SettingsError, match=r"groups 3 must divide method\.base\.projection_width 8"):
        tiny_config(*EVERY_METHOD["lewel"], "method.groups=3")
    with pytest.raises(SettingsError, match=r"method\.groups: 12 must divide the 16 channels"):
        tiny_method(*EVERY_METHOD["lewel"], "method.groups=12", "method.base.projection_width=24")


def test_regions_are_as_wide_as_features(tiny_config: Make) -> None:
    config = tiny_config(*EVERY_METHOD["lewel"])
    encoder = build_encoder(config.encoder, 16)
    encoder.head_hidden_size = 32  # type: ignore[assignment]  # as in networks with a layer between the pooling and the features
    with pytest.raises(SettingsError, match=r"encoder\.name: its 32 features must be as many as the map's 16 channels"):
        LEWEL(config.method, Parts(config, encoder, RANDOM_START, classes=()))
