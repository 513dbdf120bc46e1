"""LCR and SAM-SSL-Bilinear: their loss recomputed by hand, what is trained, and what a run measures of them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fgssl import losses
from fgssl.batch import Batch
from fgssl.encoders.batch_norm import frozen_batch_norm_statistics
from fgssl.errors import SettingsError
from fgssl.run.execution import execute
from fgssl.schedules import Schedule
from tests.conftest import EVERY_METHOD, TINY
from tests.one_process import accumulate_gradient, global_target

Make = Callable[..., Any]
WEIGHTED = "method.attention_weight=0.5"


def by_hand(method: Any, batch: Batch, keys: Tensor, attention: Callable[[Tensor], Tensor]) -> Tensor:
    """Return MoCo v2's loss plus half of the divergences, image by image."""
    encoder, base, sign = method.encoder, method.base, method.settings.gradient_sign
    found = encoder.forward_features(batch.views[0])
    parts = method.pooling.batch_norm(method.pooling.convolution(found)).relu()

    def features(found: Tensor, parts: Tensor) -> Tensor:
        if method.settings.name == "lcr":
            return found.mean(dim=(2, 3))
        return torch.einsum("nkhw,nchw->nkc", parts, found).flatten(1) / found[0, 0].numel()

    contrast = losses.info_nce_per_row(base.head(features(found, parts)), keys, base.queue, 0.2)
    fixed = found.detach().clone().requires_grad_()
    with frozen_batch_norm_statistics(method):
        again = method.pooling.batch_norm(method.pooling.convolution(fixed)).relu()
    own = losses.info_nce_per_row(base.head(features(fixed, again)), keys, base.queue, 0.2)
    gradient = torch.autograd.grad(own.sum(), fixed)[0]
    total = contrast.mean()
    for image in range(len(batch)):
        weights = sign * gradient[image].mean(dim=(1, 2))
        cam = sum(weights[c] * found[image, c].detach() for c in range(len(weights))).clamp_min(0)
        p, q = ((one.flatten() / method.settings.temperature).softmax(0) for one in (cam, attention(parts[image])))
        total = total + 0.5 * (p * (p / q).log()).sum()
    return total


def scaled(parts: Tensor) -> Tensor:
    strongest = parts.max(dim=0).values
    return (strongest - strongest.min()) / (strongest.max() - strongest.min())


@pytest.mark.parametrize(
    ("name", "attention"), [("lcr", scaled), ("sam_ssl_bilinear", lambda parts: parts.max(dim=0).values)]
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_loss_is_the_bases_plus_the_divergences(
    name: str, attention: Callable[[Tensor], Tensor], sign: int, tiny_method: Make, random_batch: Callable[..., Batch]
) -> None:
    method, batch = tiny_method(*EVERY_METHOD[name], WEIGHTED, f"method.gradient_sign={sign}"), random_batch()
    other = copy.deepcopy(method)
    keys = global_target(copy.deepcopy(method), batch, 32)
    assert keys is not None
    expected = by_hand(other, batch, keys, attention)
    expected.backward()
    output, online, _ = accumulate_gradient(method, batch, 32)
    assert online["grad_cam_range"].max() > 0
    torch.testing.assert_close(output.loss, expected)
    for (name_, parameter), twin in zip(method.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, twin.grad, rtol=1e-4, atol=1e-5, msg=name_)
    assert method.pooling.batch_norm.running_var.ne(1).all()
    assert int(method.pooling.batch_norm.num_batches_tracked) == 1


def test_lcr_without_weight_trains_its_base(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    """The Grad-CAM leaves no trace in weights or BatchNorm of the base, even with BatchNorm in its head."""
    lcr = tiny_method(*EVERY_METHOD["lcr on byol"], "method.attention_weight=0")
    byol = tiny_method(*EVERY_METHOD["byol"], "encoder.arguments.output_stride=8")
    byol.load_state_dict(lcr.base.state_dict())
    for method in (lcr, byol):
        accumulate_gradient(method, random_batch(), 32)
    for (name, one), other in zip(lcr.base.named_parameters(), byol.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    for (name, one), other in zip(lcr.base.named_buffers(), byol.buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


@pytest.mark.parametrize("name", ["lcr", "lcr on byol", "sam_ssl_bilinear"])
def test_every_parameter_is_in_one_group(name: str, tiny_method: Make) -> None:
    method = tiny_method(*EVERY_METHOD[name])
    groups = method.parameter_groups(Schedule(0.1), Schedule(0.0))
    grouped = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(grouped) == sorted(id(parameter) for parameter in method.trained_parameters())
    assert id(method.pooling.convolution.weight) in grouped


@pytest.mark.parametrize(("name", "pooling"), [("lcr", "attention"), ("sam_ssl_bilinear", "bilinear")])
def test_both_features_are_measured_of_one_training(name: str, pooling: str, tiny_config: Make, tmp_path: Path) -> None:
    knn = "evaluation={linear: null, retrieval: null, knn: true}"
    measures = {}
    for one in ("gap", pooling, "gap"):
        config = tiny_config(*EVERY_METHOD[name], "training.epochs=1", knn, f"evaluation.pooling={one}")
        folder = execute(config, tmp_path)
        found = folder.evaluation(config)
        assert found is not None
        measures[one] = found.measures
    assert len(list(tmp_path.glob("runs/*"))) == 1
    assert measures["gap"] != measures[pooling]
    assert (folder.path / f"{pooling}.safetensors").is_file()


def test_a_pooling_must_be_trained_by_the_method(tiny_config: Make) -> None:
    for override in ("method.noise.variant=none", EVERY_METHOD["sam_ssl_bilinear"][0]):
        with pytest.raises(SettingsError, match="trains no pooling by attention: take gap"):
            tiny_config(override, "evaluation={pooling: attention}")


def test_one_position_has_no_parts(tiny_method: Make) -> None:
    with pytest.raises(SettingsError, match="has one position"):
        tiny_method(EVERY_METHOD["lcr"][0])


def test_lcr_needs_features_that_depend_on_the_map(
    tiny_method: Make, random_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"img_size": 16, "patch_size": 8, "depth": 1, "embed_dim": 12, "num_heads": 2}
    encoder = {"name": "vit_tiny_patch16_224", "arguments": arguments, "batch_norm_group_size": 16}
    monkeypatch.setitem(TINY, "encoder", encoder)
    lcr, sam = EVERY_METHOD["lcr"][0], EVERY_METHOD["sam_ssl_bilinear"][0]
    with pytest.raises(SettingsError, match=r"encoder\.arguments: .* class token .*: give \{global_pool: avg\}"):
        tiny_method(lcr)
    averaged = tiny_method(lcr, "encoder.arguments.global_pool=avg")
    for method in (averaged, tiny_method(sam)):  # SAM pools the map itself
        output, online, _ = accumulate_gradient(method, random_batch(), 32)
        assert online["grad_cam_range"].max() > 0
        assert output.loss.isfinite()
        assert method.pooling.convolution.weight.grad.any()
