"""DINO, Barlow Twins and VICReg: the loss recomputed by hand from the images, and what DINO's teacher does."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightly.loss import BarlowTwinsLoss, VICRegLoss
from ruamel.yaml import YAML
from torch import Tensor

from fgssl.batch import Batch
from fgssl.errors import SettingsError
from fgssl.heads import Prototypes
from fgssl.interruption import Interrupted
from fgssl.methods.build import RANDOM_START, build_method, start_encoder
from fgssl.run.execution import execute
from fgssl.schedules import Schedule
from fgssl.settings import config as configs
from fgssl.training import checkpoint
from tests.docs.pages import block
from tests.multi_crop import RECIPES
from tests.one_process import accumulate_gradient, global_target

Make = Callable[..., Any]
HEAD = "hidden_width: 16, projection_width: 8"
DINO = f"{{name: dino, prototypes: 24, prototypes_frozen_epochs: 0.5, {HEAD}}}"


@pytest.fixture
def dino(tiny_method: Make) -> Make:
    """Return `dino("method.momentum=0.9", ...)`, DINO on two large views and three small ones."""
    return lambda *overrides: tiny_method(f"method={DINO}", RECIPES, *overrides)


@pytest.fixture
def crops() -> Batch:
    views = tuple(torch.randn(32, 3, size, size) for size in (16, 16, 8, 8, 8))
    return Batch(0, torch.arange(32), torch.zeros(32, 2, dtype=torch.int64), views, original=None)


def assert_same_gradients(method: Any, by_hand: Any) -> None:
    for (name, parameter), other in zip(method.named_parameters(), by_hand.named_parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other[1].grad, rtol=1e-4, atol=1e-5, msg=name)


def cosines(head: Any, features: Tensor) -> Tensor:
    """Return the logits of a head, whose last layer is written out."""
    rows, weight = head[:-1](features), head[-1].weight
    return (rows / rows.norm(dim=1, keepdim=True)) @ (weight / weight.norm(dim=1, keepdim=True)).T


def test_dino_is_its_algorithm_1(dino: Make, crops: Batch) -> None:
    method = dino()
    method.center.normal_(std=0.1)
    by_hand = copy.deepcopy(method)
    targets = global_target(copy.deepcopy(method), crops, 32, 0)
    assert targets is not None
    large = [((targets[:, part] - method.center) / 0.04).softmax(dim=1) for part in (slice(24), slice(24, None))]
    expected, pairs = torch.zeros(()), 0
    for number, view in enumerate(crops.views):
        log_p = (cosines(by_hand.head, by_hand.encoder(view)) / 0.1).log_softmax(dim=1)
        for other in {0, 1} - {number}:
            expected, pairs = expected - (large[other] * log_p).sum() / 32, pairs + 1
    assert pairs == 8
    (expected / pairs).backward()
    output, _, found = accumulate_gradient(method, crops, 32, 0)
    torch.testing.assert_close(found, targets)
    torch.testing.assert_close(output.loss, expected.detach() / pairs)
    assert 0 < output.metrics["teacher_entropy"] < math.log(24)
    assert_same_gradients(method, by_hand)
    teacher = [*method.target_encoder.parameters(), *method.target_head.parameters()]
    assert all(parameter.grad is None for parameter in teacher)


def test_the_teacher_sees_the_large_views_and_is_exported(dino: Make, crops: Batch) -> None:
    method = dino()
    target = method.target(*crops.views[:2])
    for view, logits in zip(crops.views, target.chunk(2, dim=1), strict=False):
        torch.testing.assert_close(logits, cosines(method.target_head, method.target_encoder(view)))
    assert (method.target_views, method.online_views) == ((0, 1), (0, 1, 2, 3, 4))
    assert method.exports() == {"encoder": method.target_encoder}


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_the_teacher_and_the_center_follow(progress: float, momentum: float, dino: Make) -> None:
    method = dino("method.momentum=0.9", "method.center_momentum=0.8")
    method.center.fill_(3.0)
    with torch.no_grad():
        for parameter in method.trained_parameters():
            parameter.normal_()
    networks = ((method.encoder, method.target_encoder), (method.head, method.target_head))
    expected = [
        momentum * old + (1 - momentum) * new
        for online, target in networks
        for new, old in zip(online.parameters(), target.parameters(), strict=True)
    ]
    target = torch.randn(32, 48)
    method.after_step({}, target, progress)
    found = [*method.target_encoder.parameters(), *method.target_head.parameters()]
    torch.testing.assert_close(found, expected, check_stride=False)
    # Eq. 4, over the rows of both views
    torch.testing.assert_close(method.center, 0.8 * 3.0 + 0.2 * torch.cat([target[:, :24], target[:, 24:]]).mean(dim=0))


def test_the_teachers_temperature_rises_and_stays(dino: Make) -> None:
    method = dino("training.epochs=100")
    found = [method._teacher_temperature(epoch / 100) for epoch in (0, 15, 30, 99)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert dino("training.epochs=15")._teacher_temperature(1.0) == pytest.approx(0.055)  # ends on the way
    assert dino("method.teacher_warm_up_epochs=0")._teacher_temperature(0.0) == 0.07


def test_biases_do_not_decay_and_prototypes_wait(dino: Make) -> None:
    method = dino("training.epochs=4", "method.prototypes_frozen_epochs=1")
    rate, decay = Schedule(0.1, warm_up=0.5), Schedule(0.04, end=0.4)
    weights, vectors, prototypes = method.parameter_groups(rate, decay)
    trained = {id(one) for one in method.trained_parameters()}
    assert {id(one) for group in (weights, vectors, prototypes) for one in group.parameters} == trained
    assert prototypes.parameters == [method.head[-1].weight]
    assert {one.ndim for one in weights.parameters} == {2, 4}
    assert {one.ndim for one in vectors.parameters} == {1}
    assert (
        (weights.learning_rate, weights.weight_decay)
        == (vectors.learning_rate, prototypes.weight_decay)
        == (rate, decay)
    )
    assert [vectors.weight_decay.at(progress) for progress in (0.0, 1.0)] == [0.0, 0.0]
    found = [prototypes.learning_rate.at(progress) for progress in (0.0, 0.2, 0.25, 0.5, 0.75)]
    assert found == [0.0, 0.0, *(rate.at(progress) for progress in (0.25, 0.5, 0.75))]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_prototypes_stay_in_the_first_epochs(optimizer: str, tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(f"method={DINO}", RECIPES, "training.epochs=1", f"training.optimizer.name={optimizer}")
    start = build_method(config, RANDOM_START, classes=(24, 6)).state_dict()
    names = ("head.5.weight", "target_head.5.weight", "head.4.weight")
    moved = []
    for step in (3, 4):  # of 6
        with pytest.raises(Interrupted):
            execute(config, tmp_path, last_step=step)
        (path,) = tmp_path.glob(f"runs/*/checkpoints/step-{step:08d}")
        state = checkpoint.read(path).state["method"]
        moved.append([not torch.equal(state[name], start[name]) for name in names])
    assert moved == [[False, False, True], [True, True, True]]


def test_the_head_is_the_papers(dino: Make) -> None:
    head = dino().head
    assert [type(layer).__name__ for layer in head] == [*("Linear", "GELU") * 2, "Linear", "Prototypes"]
    assert head[0].weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert not any(head[number].bias.any() for number in (0, 2, 4))
    normalized = dino("method.head_batch_norm=true").head
    assert [normalized[number].bias is None for number in (0, 3, 6)] == [True, True, False]
    names = [type(layer).__name__.removeprefix("Grouped") for layer in normalized]
    assert names == [*("Linear", "BatchNorm1d", "GELU") * 2, "Linear", "Prototypes"]


def test_prototypes_give_cosines_in_single_precision_under_autocast() -> None:
    layer, rows = Prototypes(8, 24), torch.randn(5, 8)
    expected = torch.nn.functional.cosine_similarity(rows[:, None], layer.weight[None], dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(rows)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_settings_that_do_not_fit_are_named(dino: Make, tiny_config: Make) -> None:
    with pytest.raises(SettingsError, match=r"views\.recipes makes 1 view, but method dino needs two or more"):
        tiny_config(f"method={DINO}", "views.recipes=[{}]")
    with pytest.raises(SettingsError, match=r"takes its views from views\.recipes: give at least one"):
        tiny_config(f"method={DINO}")
    with pytest.raises(SettingsError, match=r"prototypes_frozen_epochs 2 must be less than training\.epochs 2"):
        dino("method.prototypes_frozen_epochs=2")
    with pytest.raises(SettingsError, match="the moving average of dino needs all weights on every process"):
        dino("resources.engine=zero3")


@pytest.mark.parametrize("file", ["dino_vit.yaml", "dino_resnet.yaml"])
def test_the_recipes_of_the_explanation_build_their_encoder(file: str) -> None:
    """At both sizes of view, on blank images."""
    config = configs.parse(YAML(typ="safe").load(block("docs/explanation/methods.md", "yaml", f"# {file}\n")), file)
    assert config.views.num_recipes == 10
    assert start_encoder(config, RANDOM_START).training


SMALL_VIT = (
    "encoder.arguments={img_size: 16, patch_size: 4, depth: 1, embed_dim: 24, num_heads: 2}",
    "encoder.batch_norm_group_size=16",
    "data.toy={image_size: 16, train_images_per_species: 4, test_images_per_species: 1}",
    "views.image_size=16",
    "views.recipes=[{blur_probability: 1.0}, {solarize_probability: 0.2}, {count: 8, image_size: 8}]",
    *("method.prototypes=24", "method.hidden_width=16", "method.projection_width=8"),
    *("training.epochs=3", "training.global_batch_size=32", "training.warm_up_epochs=1"),
    *("evaluation=null", "resources.device=cpu", "resources.log_every_steps=1"),
)
"""Overrides that make the recipe for a ViT small; the teacher's warm-up stays longer than the training."""


def test_the_vit_recipe_trains_and_resumes(tmp_path: Path) -> None:
    recipe = YAML(typ="safe").load(block("docs/explanation/methods.md", "yaml", "# dino_vit.yaml\n"))
    config = configs.parse(configs.overridden(recipe, SMALL_VIT), "test")
    start = build_method(config, RANDOM_START, classes=(24, 6)).state_dict()
    straight = execute(config, tmp_path / "straight")
    with pytest.raises(Interrupted):
        execute(config, tmp_path / "stopped", last_step=3)  # of 9: the end of epoch 1
    (path,) = (tmp_path / "stopped").glob("runs/*/checkpoints/step-00000003")
    state = checkpoint.read(path).state
    assert torch.equal(state["method"]["head.5.weight"], start["head.5.weight"])
    for name in ("encoder.pos_embed", "target_encoder.pos_embed", "center"):
        assert not torch.equal(state["method"][name], start[name]), name
    resumed = execute(config, tmp_path / "stopped")
    assert resumed.metrics.read_text() == straight.metrics.read_text()
    assert resumed.encoder.read_bytes() == straight.encoder.read_bytes()
    lacking = configs.parse(
        configs.overridden(recipe, (*SMALL_VIT, "encoder.arguments.dynamic_img_size=false")), "test"
    )
    with pytest.raises(SettingsError, match=r"a recipe makes views of 8 px, .* dynamic_img_size: true for a ViT"):
        execute(lacking, tmp_path / "lacking")


@pytest.mark.parametrize(
    ("settings", "oracle"),
    [
        ("name: barlow_twins, redundancy_weight: 0.1", BarlowTwinsLoss(0.1)),
        ("name: vicreg, invariance_weight: 3, variance_weight: 5, covariance_weight: 7", VICRegLoss(3.0, 5.0, 7.0)),
    ],
)
def test_the_loss_of_two_views_is_lightlys(
    settings: str, oracle: Any, tiny_method: Make, random_batch: Callable[..., Batch]
) -> None:
    method, batch = tiny_method(f"method={{{settings}, {HEAD}}}"), random_batch()
    by_hand = copy.deepcopy(method)
    expected = oracle(*(by_hand.head(by_hand.encoder(view)) for view in batch.views))
    expected.backward()
    output, _, target = accumulate_gradient(method, batch, 32, 0)
    assert target is None
    torch.testing.assert_close(output.loss, expected)
    assert_same_gradients(method, by_hand)
    layers = [type(layer).__name__.removeprefix("Grouped") for layer in method.head]
    assert layers == [*("Linear", "BatchNorm1d", "ReLU") * 2, "Linear"]


def test_vicregs_terms_are_logged(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method = tiny_method(f"method={{name: vicreg, {HEAD}}}")
    output, _, _ = accumulate_gradient(method, random_batch(), 32, 0)
    weighted = zip((25, 25, 1), ("invariance", "variance", "covariance"), strict=True)
    total = sum(weight * output.metrics[f"loss_{name}"] for weight, name in weighted)
    torch.testing.assert_close(total, output.loss.detach())
