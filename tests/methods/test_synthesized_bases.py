"""Synthesized Pairs on BYOL and DINO: the pair loss against a slow loop, Eq. 8 recomputed, and what is refused."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.batch import Batch
from fgssl.errors import SettingsError
from fgssl.noises.grad_cam import grad_cam_scores, normalized_scores
from fgssl.noises.perturbation import Perturbation
from tests.conftest import BYOL, DINO, EVERY_METHOD
from tests.multi_crop import RECIPES
from tests.one_process import accumulate_gradient, global_target

Make = Callable[..., Any]
MULTI_CROP = (f"method.base={DINO}", RECIPES, "method.base.teacher_warm_up_epochs=1")


def numbers(rows: Tensor) -> list[list[float]]:
    found: list[list[float]] = rows.tolist()
    return found


def byols_distance(base: Any, student: Tensor, other: Tensor, center: list[float], temperature: float) -> Tensor:
    """Return the squared distance of one image's prediction to the other image's projection, a number at a time."""
    prediction, target = base.predictor(student[None])[0], numbers(other[None])[0]
    lengths = sum(one**2 for one in prediction) ** 0.5, sum(one**2 for one in target) ** 0.5
    return sum(((p / lengths[0] - z / lengths[1]) ** 2 for p, z in zip(prediction, target, strict=True)))


def dinos_cross_entropy(base: Any, student: Tensor, other: Tensor, center: list[float], temperature: float) -> Tensor:
    """Return the cross-entropy of one image's distribution under the other image's, a prototype at a time."""
    centered = [(k - c) / temperature for k, c in zip(numbers(other[None])[0], center, strict=True)]
    total = sum(math.exp(one) for one in centered)
    log_total = sum((one / 0.1).exp() for one in student).log()
    return -sum(math.exp(t) / total * (s / 0.1 - log_total) for t, s in zip(centered, student, strict=True))


SLOW: dict[str, tuple[tuple[str, ...], Callable[..., Tensor], float]] = {
    "byol": ((f"method.base={BYOL}",), byols_distance, 1.0),  # summed over both images of a pair
    "dino": (MULTI_CROP, dinos_cross_entropy, 0.5),  # and the mean over them
}


@pytest.mark.parametrize(("progress", "temperature"), [(0.25, 0.055), (0.75, 0.07)])  # of two epochs
@pytest.mark.parametrize(("overrides", "slow", "weight"), SLOW.values(), ids=SLOW)
def test_the_pair_loss_is_that_of_a_slow_loop(
    overrides: tuple[str, ...],
    slow: Callable[..., Tensor],
    weight: float,
    progress: float,
    temperature: float,
    tiny_method: Make,
) -> None:
    """In double precision, with its gradient, which does not reach the target."""
    base = tiny_method(*overrides).base.double().eval()
    features = torch.randn(2, 7, 16, dtype=torch.float64)
    fast, by_hand = (features.clone().requires_grad_() for _ in range(2))
    loss = base.pair_loss(base.pair_embeddings(*fast), progress)
    loss.backward()
    expected = torch.zeros((), dtype=torch.float64)
    center = [sum(column) / 14 for column in zip(*numbers(base.head(features.flatten(0, 1))), strict=True)]
    for first, second in by_hand.transpose(0, 1):
        one, other = base.head(first[None])[0], base.head(second[None])[0]
        for student, target in ((one, other.detach()), (other, one.detach())):
            expected = expected + weight * slow(base, student, target, center, temperature) / 7
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(fast.grad, by_hand.grad, rtol=1e-9, atol=1e-12)


def cross_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    return -(teacher.detach() * (student / 0.1).log_softmax(dim=1)).sum(dim=1)


def distance(prediction: Tensor, target: Tensor) -> Tensor:
    return (F.normalize(prediction, dim=1) - F.normalize(target.detach(), dim=1)).square().sum(dim=1)


def by_hand_on_byol(base: Any, views: tuple[Tensor, ...], targets: Tensor) -> tuple[Tensor, Any, Any]:
    """Return L_C, and functions for the contrast (N,) of features and for L_P of two lots of images."""

    def predicted(features: Tensor) -> Tensor:
        return base.predictor(base.head(features))

    def pairs(first: Tensor, second: Tensor) -> Tensor:
        first, second = base.encoder(first), base.encoder(second)
        one, other = distance(predicted(first), base.head(second)), distance(predicted(second), base.head(first))
        return (one + other).mean()

    first, second = (predicted(base.encoder(view)) for view in views)
    contrast = (distance(first, targets[:, 8:]) + distance(second, targets[:, :8])).mean()
    return contrast, lambda features: distance(predicted(features), targets[:, 8:]), pairs


def by_hand_on_dino(base: Any, views: tuple[Tensor, ...], targets: Tensor) -> tuple[Tensor, Any, Any]:
    """Return the same for DINO at progress 0, whose teacher has the temperature 0.04, but 0.07 in the contrast."""

    def teacher(logits: Tensor, center: Tensor, temperature: float = 0.04) -> Tensor:
        return ((logits - center) / temperature).softmax(dim=1)

    def pairs(first: Tensor, second: Tensor) -> Tensor:
        one, other = base.head(base.encoder(first)), base.head(base.encoder(second))
        center = torch.cat([one, other]).mean(dim=0)
        return (cross_entropy(teacher(other, center), one) + cross_entropy(teacher(one, center), other)).mean() / 2

    large, crossed = (targets[:, :24], targets[:, 24:]), []
    for number, view in enumerate(views):
        student = base.head(base.encoder(view))
        crossed += [cross_entropy(teacher(large[other], base.center), student).mean() for other in {0, 1} - {number}]
    assert len(crossed) == 8

    def contrast(features: Tensor) -> Tensor:
        return cross_entropy(teacher(targets[:, 24:], base.center, 0.07), base.head(features))

    return torch.stack(crossed).mean(), contrast, pairs


@pytest.mark.parametrize(
    ("overrides", "sizes", "by_hand"),
    [((f"method.base={BYOL}",), (16, 16), by_hand_on_byol), (MULTI_CROP, (16, 16, 8, 8, 8), by_hand_on_dino)],
    ids=["byol", "dino with small views"],
)
def test_the_loss_is_equation_8(
    overrides: tuple[str, ...], sizes: tuple[int, ...], by_hand: Callable[..., Any], tiny_method: Make
) -> None:
    method = tiny_method("method.noise.threshold={quantile: 0.5}", *overrides)
    views = tuple(torch.randn(32, 3, size, size) for size in sizes)
    batch = Batch(0, torch.arange(32), torch.zeros(32, 2, dtype=torch.int64), views, torch.randn(32, 3, 16, 16))
    assert batch.original is not None
    originals = batch.original.split(16)
    method.prepare(lambda number: originals)
    if hasattr(method.base, "center"):
        method.base.center.normal_(std=0.1)
    base, decoder = copy.deepcopy(method.base), copy.deepcopy(method.decoder)
    targets = global_target(copy.deepcopy(method), batch, 32, 0)
    loss_contrast, contrast, pairs = by_hand(base, views, targets)
    features = base.encoder(batch.original)
    rebuilt = decoder(features)
    error = ((rebuilt - batch.original) ** 2).mean()
    fixed = features.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(contrast(fixed).sum(), fixed)
    noise = Perturbation(method.settings.noise, seed=0)(
        features.detach(), gradient, method.bank[-32:], batch.step, batch.indices
    )
    loss_pair = pairs(rebuilt.detach(), decoder(features + noise.delta).detach())

    output, _, _ = accumulate_gradient(method, batch, 32, 0)
    found = [output.metrics[name] for name in ("reconstruction_error", "loss_pair")]
    torch.testing.assert_close(found, [error.detach(), loss_pair.detach()])
    torch.testing.assert_close(output.loss, (loss_contrast + 0.5 * error + 0.5 * loss_pair).detach())
    gates = 1 - normalized_scores(grad_cam_scores(features.detach(), gradient, sign=-1))
    assert gates.isfinite().all()
    assert 0.1 < gates.mean() < 1  # min-max leaves one gate closed and one open in each image
    assert output.metrics["noise_grad_cam_flat_share"] == 0
    assert output.metrics["noise_grad_cam_rms"] > 0.1


def test_the_exports_are_those_of_the_base_and_the_decoder(tiny_method: Make) -> None:
    method = tiny_method(*MULTI_CROP)
    assert method.exports() == {"encoder": method.base.target_encoder, "decoder": method.decoder}
    assert (method.online_views, method.target_views) == ((0, 1, 2, 3, 4), (0, 1))


def test_settings_that_do_not_fit_are_named(tiny_config: Make) -> None:
    with pytest.raises(SettingsError, match=r"takes its views from views\.recipes: give at least one"):
        tiny_config(f"method.base={DINO}")
    with pytest.raises(SettingsError, match=r"prototypes_frozen_epochs 2 must be less than training\.epochs 2"):
        tiny_config(*MULTI_CROP, "method.base.prototypes_frozen_epochs=2")
    with pytest.raises(SettingsError, match=r"takes 2 views, but views\.recipes makes 5"):
        tiny_config(*EVERY_METHOD["both on byol"], RECIPES)
    with pytest.raises(SettingsError, match="the moving average of dino needs all weights on every process"):
        tiny_config(*MULTI_CROP, "resources.engine=zero3")


@pytest.mark.parametrize("name", ["lcr", "sam_ssl_bilinear"])
def test_attention_is_not_built_on_dino(name: str, tiny_config: Make) -> None:
    with pytest.raises(SettingsError, match="unknown name 'dino': allowed: mocov2, simsiam, byol"):
        tiny_config(f"method={{name: {name}, base: {DINO}}}", RECIPES)
