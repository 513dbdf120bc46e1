"""SimCLR, SimSiam and BYOL: the loss recomputed by hand from the images, and the trained and EMA networks."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings, Output
from fgssl.methods.synthesized import Synthesized
from fgssl.noises.perturbation import Perturbation
from fgssl.schedules import Schedule
from tests.one_process import accumulate_gradient, global_target

Make = Callable[..., Any]
SIMSIAM = "{name: simsiam, hidden_width: 32, projection_width: 16, predictor_width: 8}"
BYOL = "method={name: byol, momentum: 0.9, hidden_width: 16, projection_width: 8}"


def step(method: Any, batch: Batch) -> tuple[Output, Embeddings, Tensor | None]:
    return accumulate_gradient(method, batch, len(batch), 0)


def assert_same_gradients(method: nn.Module, by_hand: nn.Module) -> None:
    """Check the gradient of every parameter; EMA networks have none."""
    for (name, parameter), other in zip(method.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-5, msg=name)


def distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Return SimSiam's D (Algorithm 1): -cosine, with the target detached."""
    return -(F.normalize(prediction, dim=1) * F.normalize(target.detach(), dim=1)).sum(dim=1).mean()


def test_simclr(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method = tiny_method("method={name: simclr, temperature: 0.3, hidden_width: 16, projection_width: 8}")
    batch = random_batch()
    by_hand = copy.deepcopy(method)
    unit = F.normalize(torch.cat([by_hand.head(by_hand.encoder(view)) for view in batch.views]), dim=1)  # (2N, P)
    expected = torch.zeros(())
    for i in range(64):
        others = [j for j in range(64) if j != i]
        log_p = (unit[others] @ unit[i] / 0.3).log_softmax(dim=0)
        expected = expected - log_p[others.index((i + 32) % 64)] / 64
    expected.backward()
    torch.testing.assert_close(step(method, batch)[0].loss, expected)
    assert_same_gradients(method, by_hand)


def test_simsiam_is_its_algorithm_1(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method, batch = tiny_method(f"method={SIMSIAM}"), random_batch()
    by_hand = copy.deepcopy(method)
    z1, z2 = (by_hand.head(by_hand.encoder(view)) for view in batch.views)
    p1, p2 = by_hand.predictor(z1), by_hand.predictor(z2)
    expected = distance(p1, z2) / 2 + distance(p2, z1) / 2
    expected.backward()
    output, _, target = step(method, batch)
    assert target is None
    torch.testing.assert_close(output.loss, expected)
    assert_same_gradients(method, by_hand)


def test_simsiams_heads_are_the_papers(tiny_method: Make) -> None:
    method = tiny_method(f"method={SIMSIAM}")
    assert [type(layer).__name__.removeprefix("Grouped") for layer in method.head] == [
        *("Linear", "BatchNorm1d", "ReLU") * 2,
        "Linear",
        "BatchNorm1d",
    ]
    assert not method.head[-1].affine
    assert [type(layer).__name__.removeprefix("Grouped") for layer in method.predictor] == [
        *("Linear", "BatchNorm1d", "ReLU"),
        "Linear",
    ]


@pytest.mark.parametrize("where", ["method", "method.base"])
def test_the_predictors_rate_is_constant(where: str, tiny_method: Make) -> None:
    method = tiny_method(f"{where}={SIMSIAM}")
    simsiam: Any = method.base if isinstance(method, Synthesized) else method
    falling, decay = Schedule(0.1), Schedule(0.01, end=0.02)
    others, predictor = method.parameter_groups(falling, decay)
    assert {id(one) for one in predictor.parameters} == {id(one) for one in simsiam.predictor.parameters()}
    assert sorted(map(id, others.parameters + predictor.parameters)) == sorted(map(id, method.parameters()))
    assert (others.learning_rate, others.weight_decay, predictor.weight_decay) == (falling, decay, decay)
    assert [predictor.learning_rate.at(progress) for progress in (0.0, 0.5, 1.0)] == [0.1, 0.1, 0.1]
    switched_off = tiny_method(f"{where}={SIMSIAM}", f"{where}.constant_predictor_rate=false")
    assert [group.learning_rate for group in switched_off.parameter_groups(falling, decay)] == [falling]


def test_synthesized_pairs_on_simsiam_are_equation_8(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    """L_P is the symmetric negative cosine through the predictor, Grad-CAM goes through head and predictor."""
    method, batch = tiny_method(f"method.base={SIMSIAM}", "method.noise.threshold={quantile: 0.5}"), random_batch()
    assert batch.original is not None
    method.prepare(lambda number: batch.original.split(16))
    base, decoder = copy.deepcopy(method.base), copy.deepcopy(method.decoder)
    buffers = {name: buffer.clone() for name, buffer in method.named_buffers()}

    z1, z2 = (base.head(base.encoder(view)) for view in batch.views)
    contrast = distance(base.predictor(z1), z2) / 2 + distance(base.predictor(z2), z1) / 2
    features = base.encoder(batch.original)
    rebuilt = decoder(features)
    error = ((rebuilt - batch.original) ** 2).mean()
    fixed = features.detach().clone().requires_grad_()
    similarity = F.cosine_similarity(base.predictor(base.head(fixed)), z2.detach())
    gradient = torch.autograd.grad(-similarity.sum(), fixed)[0]
    noise = Perturbation(method.settings.noise, seed=0)(
        features.detach(), gradient, method.bank[-32:], batch.step, batch.indices
    )
    pair = [base.head(base.encoder(images)) for images in (rebuilt, decoder(features + noise.delta))]
    loss_pair = distance(base.predictor(pair[0]), pair[1]) / 2 + distance(base.predictor(pair[1]), pair[0]) / 2

    output, _, _ = step(method, batch)
    found = [output.metrics[name] for name in ("loss_contrast", "reconstruction_error", "loss_pair")]
    torch.testing.assert_close(found, [contrast.detach(), error.detach(), loss_pair.detach()])
    torch.testing.assert_close(output.loss, contrast + 0.5 * error + 0.5 * loss_pair)
    moved = {name for name, buffer in method.named_buffers() if not torch.equal(buffer, buffers[name])}
    plain = tiny_method(f"method={SIMSIAM}")
    plain.load_state_dict({name.removeprefix("base."): v for name, v in method.state_dict().items() if "base." in name})
    for name, buffer in plain.named_buffers():
        buffer.copy_(buffers[f"base.{name}"])
    step(plain, batch)
    for name, buffer in plain.named_buffers():  # moved by the views only, in head and predictor too
        torch.testing.assert_close(buffer, dict(method.named_buffers())[f"base.{name}"])
        assert f"base.{name}" in moved


def test_byol_follows_equation_2(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method, batch = tiny_method(BYOL), random_batch()
    by_hand = copy.deepcopy(method)
    targets = global_target(copy.deepcopy(method), batch, 32, 0)
    assert targets is not None
    first, second = (by_hand.predictor(by_hand.head(by_hand.encoder(view))) for view in batch.views)
    expected = torch.zeros(())
    for prediction, target in ((first, targets[:, 8:]), (second, targets[:, :8])):
        expected = expected + (F.normalize(prediction, dim=1) - F.normalize(target, dim=1)).square().sum(dim=1).mean()
    expected.backward()
    output, _, found = step(method, batch)
    torch.testing.assert_close(found, targets)
    torch.testing.assert_close(output.loss, expected)
    assert_same_gradients(method, by_hand)
    target_networks = [*method.target_encoder.parameters(), *method.target_head.parameters()]
    assert all(parameter.grad is None for parameter in target_networks)


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_byols_momentum_rises_to_one(progress: float, momentum: float, tiny_method: Make) -> None:
    method = tiny_method(BYOL)
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.normal_()
    expected = [
        momentum * target + (1 - momentum) * online
        for target, online in zip(method.target_encoder.parameters(), method.encoder.parameters(), strict=True)
    ]
    method.after_step({}, None, progress)
    torch.testing.assert_close(list(method.target_encoder.parameters()), expected, check_stride=False)
    assert math.isclose(momentum, 1 - (1 - 0.9) * (math.cos(math.pi * progress) + 1) / 2)
