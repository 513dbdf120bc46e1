"""Synthesized Pairs on MoCo v2: Eq. 8 recomputed by hand, and the inputs of each network."""

import collections
import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Batch, Output
from fgssl.methods.mocov2 import MoCoV2
from fgssl.methods.synthesized import Synthesized
from fgssl.noises.perturbation import Perturbation
from tests.one_process import accumulate_gradient, global_target

Make = Callable[..., Any]


@pytest.fixture
def make(tiny_method: Make, random_batch: Callable[..., Batch]) -> Callable[..., Synthesized]:
    """Return a method with a filled bank, whose threshold is in the middle of the features' deviations."""

    def filled(*overrides: str) -> Synthesized:
        method = tiny_method("method.noise.threshold={quantile: 0.5}", *overrides)
        assert isinstance(method, Synthesized)
        originals = random_batch(step=99, images=64).original
        assert originals is not None
        method.prepare(lambda number: originals.split(16))
        return method

    return filled


def step(method: Any, batch: Batch) -> tuple[Output, dict[str, Tensor]]:
    output, online, _ = accumulate_gradient(method, batch, len(batch), 0)
    return output, online


def _no_autocast() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("variant", "sign"), [("both", -1), ("both", 1), ("grad_cam", -1), ("low_variance", -1), ("random", -1)]
)
def test_the_loss_is_equation_8(
    variant: str, sign: int, make: Callable[..., Synthesized], random_batch: Callable[..., Batch]
) -> None:
    method = make(
        f"method.noise.variant={variant}",
        f"method.noise.gradient_sign={sign}",
        "method.reconstruction_weight=0.7",
        "method.pair_weight=0.3",
    )
    base, batch = method.base, random_batch()
    assert isinstance(base, MoCoV2)
    assert batch.original is not None
    encoder, head, decoder = (copy.deepcopy(module) for module in (base.encoder, base.head, method.decoder))
    keys = global_target(copy.deepcopy(method), batch, 32, 0)
    assert keys is not None

    by_views = losses.info_nce_per_row(head(encoder(batch.views[0])), keys, base.queue, 0.2).mean()
    features = encoder(batch.original)
    rebuilt = decoder(features)
    error = ((rebuilt - batch.original) ** 2).mean()
    gradient = []
    for feature, key in zip(features, keys, strict=True):  # each image's own loss, through the head alone
        one = feature.detach().clone().requires_grad_()
        logits = F.cosine_similarity(head(one)[None], torch.stack([key, *base.queue])) / 0.2
        gradient.append(torch.autograd.grad(-logits.log_softmax(dim=0)[0], one)[0])
    noise = Perturbation(method.settings.noise, seed=0)(
        features.detach(), torch.stack(gradient), method.bank, batch.step, batch.indices
    )
    perturbed = decoder(features + noise.delta)
    pair = losses.nt_xent(head(encoder(rebuilt)), head(encoder(perturbed)), 0.2)

    output, _ = step(method, batch)
    torch.testing.assert_close(output.loss.detach(), (by_views + 0.7 * error + 0.3 * pair).detach())
    measured = [output.metrics[name] for name in ("loss_contrast", "reconstruction_error", "loss_pair")]
    torch.testing.assert_close(measured, [by_views.detach(), error.detach(), pair.detach()])
    assert output.metrics["feature_dimension_std"].item() == pytest.approx(
        features.std(dim=0, correction=0).mean().item(), 1e-5
    )
    assert output.metrics["noise_rms"] > 0.1


def test_without_both_weights_it_is_the_base(
    make: Callable[..., Synthesized], tiny_method: Make, random_batch: Callable[..., Batch]
) -> None:
    method = make("method.reconstruction_weight=0", "method.pair_weight=0")
    base = tiny_method("method.noise.variant=none")
    output, _ = step(method, random_batch())
    expected, _ = step(base, random_batch())
    assert torch.equal(output.loss, expected.loss)
    torch.testing.assert_close(gradients(method.base), gradients(base))


def test_the_variant_none_is_the_base_without_a_decoder(tiny_method: Make) -> None:
    assert type(tiny_method("method.noise.variant=none")) is MoCoV2


@pytest.mark.parametrize(("pair_weight", "encoded", "decoded"), [(0, 2, 1), (0.5, 4, 2)])
def test_without_its_weight_no_pair_is_made(
    pair_weight: float,
    encoded: int,
    decoded: int,
    make: Callable[..., Synthesized],
    random_batch: Callable[..., Batch],
) -> None:
    """Passes of a step: view and original, then the two synthesized images; one of the original for everything."""
    method = make(f"method.pair_weight={pair_weight}")
    passes: collections.Counter[str] = collections.Counter()
    method.encoder.register_forward_hook(lambda *_: passes.update(["encoder"]))
    method.decoder.register_forward_hook(lambda *_: passes.update(["decoder"]))
    output, online = step(method, random_batch())
    assert passes == {"encoder": encoded, "decoder": decoded}
    assert ("loss_pair" in output.metrics) == ("pair_first" in online) == bool(pair_weight)


def test_detached_pairs_teach_the_decoder_nothing(
    make: Callable[..., Synthesized], random_batch: Callable[..., Batch]
) -> None:
    """The decoder then learns from L_R alone; the encoder and the head learn from L_P either way."""
    of: dict[str, Synthesized] = {
        "no pairs": make("method.pair_weight=0"),
        "detached": make("method.pair_weight=5"),
        "attached": make("method.pair_weight=5", "method.detach_pairs=false"),
    }
    for method in of.values():
        step(method, random_batch())
    decoders = {name: gradients(method.decoder) for name, method in of.items()}
    heads = {name: gradients(method.base.head) for name, method in of.items()}  # type: ignore[arg-type]
    torch.testing.assert_close(decoders["detached"], decoders["no pairs"])
    weight = next(iter(decoders["attached"]))
    assert (decoders["attached"][weight] - decoders["no pairs"][weight]).abs().max() > 1e-3
    assert (heads["detached"]["0.weight"] - heads["no pairs"]["0.weight"]).abs().max() > 1e-3
    torch.testing.assert_close(heads["attached"], heads["detached"])


def test_grad_cam_leaves_no_gradient_of_its_own(
    make: Callable[..., Synthesized], random_batch: Callable[..., Batch]
) -> None:
    method = make()
    features = torch.rand(32, 16)
    keys = F.normalize(torch.randn(32, 8), dim=1)
    gradient = method._contrast_gradient(features, {}, keys)
    assert gradient.shape == (32, 16)
    assert not gradient.requires_grad
    assert gradients(method) == {}
    # The head is not scale-invariant (it has biases), but its loss is each row's own:
    torch.testing.assert_close(method._contrast_gradient(features[:3], {}, keys[:3]), gradient[:3])


def test_only_views_move_the_running_statistics_of_the_encoder(
    make: Callable[..., Synthesized], tiny_method: Make, random_batch: Callable[..., Batch]
) -> None:
    method, base = make(), tiny_method("method.noise.variant=none")
    step(method, random_batch())
    step(base, random_batch())
    of_base = dict(base.named_buffers())
    for name, buffer in method.base.named_buffers():
        torch.testing.assert_close(buffer, of_base[name])
    assert of_base["encoder.bn1.num_batches_tracked"] == 1


def test_only_reconstructions_move_the_running_statistics_of_the_decoder(
    make: Callable[..., Synthesized], random_batch: Callable[..., Batch]
) -> None:
    with_pairs, without = make(), make("method.pair_weight=0")
    for method in (with_pairs, without):
        step(method, random_batch())
    torch.testing.assert_close(dict(with_pairs.decoder.named_buffers()), dict(without.decoder.named_buffers()))


def test_the_bank_is_first_in_first_out(make: Callable[..., Synthesized]) -> None:
    method = make()
    expected = collections.deque(method.bank.clone(), maxlen=64)
    for _ in range(5):
        features = torch.randn(32, 16)
        method._append_to_bank(features)
        expected.extend(features)
        assert torch.equal(method.bank, torch.stack(list(expected)))
    more_than_it_holds = torch.randn(100, 16)
    method._append_to_bank(more_than_it_holds)
    assert torch.equal(method.bank, more_than_it_holds[-64:])


def test_a_part_of_the_bank_is_used_while_it_fills(
    tiny_method: Make, random_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = tiny_method()
    batch = random_batch()
    assert batch.original is not None
    method.prepare(lambda number: [batch.original[:16]])
    seen = []
    original = Perturbation.__call__

    def spy(self: Perturbation, features: Tensor, **arguments: Any) -> Any:
        seen.append(arguments["bank"].clone())
        return original(self, features, **arguments)

    monkeypatch.setattr(Perturbation, "__call__", spy)
    filled = method.bank[-16:].clone()
    output, online = step(method, batch)
    assert torch.equal(seen[0], filled)
    assert output.loss.isfinite()
    method.after_step(online, torch.randn(32, 8), 0.0)
    assert int(method.bank_filled) == 48
    assert torch.equal(method.bank[-32:], online["feature"])  # appended after use
    assert torch.equal(method.bank[-48:-32], filled)


def test_the_bank_starts_with_features_of_the_start_encoder(
    tiny_method: Make, random_batch: Callable[..., Batch]
) -> None:
    method = tiny_method()
    originals = random_batch(images=48).original
    assert originals is not None
    before = {name: buffer.clone() for name, buffer in method.base.named_buffers()}
    method.prepare(lambda number: originals.split(16))
    expected = torch.cat([copy.deepcopy(method.encoder)(group) for group in originals.split(16)])
    torch.testing.assert_close(method.bank[-48:], expected.detach())
    assert int(method.bank_filled) == 48
    assert all(torch.equal(buffer, before[name]) for name, buffer in method.base.named_buffers())


def test_what_is_kept_and_trained(make: Callable[..., Synthesized]) -> None:
    method = make()
    assert method.exports() == {"encoder": method.base.encoder, "decoder": method.decoder}
    trained = {id(parameter) for parameter in method.trained_parameters()}
    base = method.base
    assert isinstance(base, MoCoV2)
    assert trained == {
        id(parameter) for module in (base.encoder, base.head, method.decoder) for parameter in module.parameters()
    }
    assert {"bank", "bank_filled"} <= method.state_dict().keys()
