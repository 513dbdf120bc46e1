"""BatchNorm in groups: one nn.BatchNorm per group, with running statistics over all groups."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from fgssl.encoders import batch_norm
from fgssl.encoders.batch_norm import (
    GroupedBatchNorm1d,
    GroupedBatchNorm2d,
    RunningStatistics,
    frozen_batch_norm_statistics,
    group_batch_norms,
)


def network(affine: bool = True) -> nn.Sequential:
    layer = nn.BatchNorm2d(3, momentum=0.3, affine=affine)
    if affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5, affine=affine))


def statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


@pytest.mark.parametrize("affine", [True, False])
def test_each_group_is_normalized_as_by_a_batch_norm_of_its_own(affine: bool) -> None:
    plain = network(affine)
    grouped = group_batch_norms(copy.deepcopy(plain), group_size=4)
    images = torch.randn(12, 3, 2, 2, requires_grad=True)
    of_groups = nn.ModuleList(copy.deepcopy(plain) for _ in range(3))
    expected = torch.cat([one(group) for one, group in zip(of_groups, images.split(4), strict=True)])
    found = grouped(images)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    of_images = [
        torch.autograd.grad((result * weights).sum(), images, retain_graph=True) for result in (found, expected)
    ]
    torch.testing.assert_close(*of_images)
    for name, parameter in grouped.named_parameters():
        (gradient,) = torch.autograd.grad((found * weights).sum(), parameter, retain_graph=True)
        same = [one.get_parameter(name) for one in of_groups]
        each = torch.autograd.grad((expected * weights).sum(), same, retain_graph=True)
        torch.testing.assert_close(gradient, torch.stack(each).sum(dim=0))


def test_running_statistics_move_once_towards_the_mean_over_the_groups() -> None:
    plain = network()
    grouped = group_batch_norms(copy.deepcopy(plain), group_size=4)
    images = torch.randn(12, 3, 2, 2) * 3 + 1
    of_groups = [copy.deepcopy(plain) for _ in range(3)]
    for one, group in zip(of_groups, images.split(4), strict=True):
        one(group)
    grouped(images)
    for name, found in grouped.named_buffers():
        each = torch.stack([one.get_buffer(name) for one in of_groups])  # linear in the batch's statistics
        torch.testing.assert_close(found, each.double().mean(dim=0).to(found.dtype))


def test_one_group_is_plain_batch_norm() -> None:
    plain = network()
    grouped = group_batch_norms(copy.deepcopy(plain), group_size=12)
    for _ in range(3):
        images = torch.randn(12, 3, 2, 2)
        torch.testing.assert_close(grouped(images), plain(images))
    torch.testing.assert_close(statistics(grouped), statistics(plain))


def test_evaluation_mode_is_plain_batch_norm_for_any_number_of_images() -> None:
    plain = network()
    plain(torch.randn(12, 3, 2, 2))
    grouped = group_batch_norms(copy.deepcopy(plain), group_size=4)
    images, before = torch.randn(7, 3, 2, 2), statistics(grouped)
    assert torch.equal(grouped.eval()(images), plain.eval()(images))
    torch.testing.assert_close(statistics(grouped), before, rtol=0, atol=0)


def test_keys_and_values_of_the_state_dict_stay() -> None:
    plain = network()
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    grouped = group_batch_norms(plain, group_size=4)
    assert [type(layer) for layer in grouped.children()][::3] == [GroupedBatchNorm2d, GroupedBatchNorm1d]
    assert list(grouped.state_dict()) == list(state)
    torch.testing.assert_close(dict(grouped.state_dict()), state, rtol=0, atol=0)


def test_layers_inside_layers_are_found_and_groups_are_not_grouped_again() -> None:
    inner = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)))
    grouped = group_batch_norms(group_batch_norms(inner, 4), 8)
    layer = grouped[0][0]  # type: ignore[index]
    assert isinstance(layer, GroupedBatchNorm2d)
    assert layer.group_size == 4


def test_frozen_batch_norm_statistics_stay_still_within_and_move_again_after() -> None:
    grouped = group_batch_norms(network(), group_size=4)
    images = torch.randn(8, 3, 2, 2)
    before = statistics(grouped)
    with frozen_batch_norm_statistics(grouped):
        still = grouped(images)
        with frozen_batch_norm_statistics(grouped):
            grouped(images)
        grouped(images)  # an inner context does not end the outer one
    torch.testing.assert_close(statistics(grouped), before, rtol=0, atol=0)
    moving = grouped(images)
    assert torch.equal(still, moving)  # the statistics used are the batch's own either way
    assert (statistics(grouped)["0.running_mean"] != before["0.running_mean"]).all()
    assert statistics(grouped)["0.num_batches_tracked"] == 1


def test_shards_move_the_running_statistics_as_the_whole_batch_does() -> None:
    whole = group_batch_norms(network(), group_size=4)
    sharded = copy.deepcopy(whole)
    images = torch.randn(16, 3, 2, 2) * 2 + 1
    whole(images)
    with RunningStatistics(sharded) as gathered:
        for shard in images.split(8):
            sharded(shard)
            with frozen_batch_norm_statistics(sharded):
                sharded(shard * 10)  # is not gathered
        gathered.move(gathered.taken())
    assert statistics(sharded).keys() == statistics(whole).keys()
    torch.testing.assert_close(statistics(sharded), statistics(whole))
    assert statistics(sharded)["0.num_batches_tracked"] == 1


def test_half_precision_images_keep_single_precision_statistics() -> None:
    grouped = group_batch_norms(nn.Sequential(nn.BatchNorm2d(3)), group_size=4)
    reference = copy.deepcopy(grouped)
    images = torch.randn(8, 3, 4, 4)
    result = grouped(images.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), reference(images), rtol=0.02, atol=0.02)
    for name, found in statistics(grouped).items():
        assert found.dtype == statistics(reference)[name].dtype
        torch.testing.assert_close(found, statistics(reference)[name], rtol=0.01, atol=0.01)


def test_double_precision_stays_double() -> None:
    grouped = group_batch_norms(network(), group_size=4).double()
    assert grouped(torch.randn(8, 3, 2, 2).double()).dtype == torch.float64
    assert statistics(grouped)["0.running_mean"].dtype == torch.float64


@pytest.mark.skipif(torch.cuda.is_available(), reason="tries what fails without a GPU")
def test_groups_are_taken_one_by_one_with_a_warning_where_kernels_do_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert batch_norm._kernels.__wrapped__() is None
    assert capsys.readouterr().err.startswith("WARNING: BatchNorm takes its groups one by one")


def test_a_part_of_a_group_is_refused() -> None:
    grouped = group_batch_norms(network(), group_size=4)
    with pytest.raises(ValueError, match="10 samples: must be a multiple of the BatchNorm group of 4"):
        grouped(torch.randn(10, 3, 2, 2))


def test_a_cumulative_average_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="0: a BatchNorm whose momentum is None cannot be grouped"):
        group_batch_norms(nn.Sequential(nn.BatchNorm2d(4, momentum=None)), group_size=2)


def test_a_kind_of_batch_norm_that_is_not_known_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="norm: BatchNorm3d cannot be grouped"):
        group_batch_norms(nn.ModuleDict({"norm": nn.BatchNorm3d(3)}), group_size=4)


@pytest.mark.parametrize("name", ["efficientnet_b0", "densenet121"])
def test_timms_batch_norm_with_activation(name: str) -> None:
    """Two groups are as two batches of the plain model; running statistics move by the mean of the two."""
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=0).train()
    grouped = group_batch_norms(copy.deepcopy(plain), group_size=2)
    assert grouped.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(4, 3, 64, 64)
    first, second = copy.deepcopy(plain), copy.deepcopy(plain)
    torch.testing.assert_close(
        grouped(images), torch.cat([first(images[:2]), second(images[2:])]), rtol=1e-4, atol=1e-4
    )
    for key, value in statistics(grouped).items():
        if key.endswith("running_mean"):
            expected = (statistics(first)[key] + statistics(second)[key]) / 2
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    grouped.eval()
    plain.load_state_dict(grouped.state_dict())
    torch.testing.assert_close(grouped(images), plain.eval()(images), rtol=0, atol=0)
