"""Every method overfits eight images within seconds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from fgssl.batch import Batch, Embeddings
from tests.one_process import accumulate_gradient

IMAGES = 8
EACH = torch.arange(IMAGES)
SPECIES, GENUS = EACH // 2, EACH // 4


def blotches() -> Batch:
    """Return soft blotches of color, two images per species, in two views that differ in pixel noise."""
    original = F.interpolate(torch.randn(IMAGES, 3, 4, 4), size=16, mode="bilinear")
    first, second = original + 0.1 * torch.randn_like(original), original + 0.1 * torch.randn_like(original)
    return Batch(0, EACH, torch.stack([SPECIES, GENUS], dim=1), (first, second), original)


def margin(first: Tensor, second: Tensor, labels: Tensor) -> float:
    """Return the mean cosine to the same label's second view, minus the largest cosine to another label's."""
    cosines = F.normalize(first.float(), dim=1) @ F.normalize(second.float(), dim=1).T
    same = labels[:, None] == labels
    own = (cosines * same).sum(dim=1) / same.sum(dim=1)
    return float((own - cosines.masked_fill(same, -1).amax(dim=1)).mean())


def of_classifier(online: Embeddings, target: Tensor | None) -> float:
    """Return the mean probability of the correct class."""
    return float(online["logits"].softmax(dim=1)[EACH, SPECIES].mean())


def of_projections(online: Embeddings, target: Tensor | None) -> float:
    return margin(online["projections"][:, 0], online["projections"][:, 1], SPECIES)


def of_genera(online: Embeddings, target: Tensor | None) -> float:
    """Return the margin between genera, since a loss may ignore the species of a genus, or pull them together."""
    return margin(online["projections"][:, 0], online["projections"][:, 1], GENUS)


def of_views(first: str, second: str) -> Callable[[Embeddings, Tensor], float]:
    return lambda online, target: margin(online[first], online[second], EACH)


def of_targets(name: str) -> Callable[[Embeddings, Tensor], float]:
    """Return the margin against the momentum network's projection, or the last one if there are two."""
    return lambda online, target: margin(online[name], target[:, -online[name].shape[1] :], EACH)


def of_distributions(online: Embeddings, target: Tensor) -> float:
    """Return the margin of the student's distributions against the teacher's of the other view."""
    student, teacher = online["0"] / 0.1, target[:, -online["0"].shape[1] :] / 0.04
    return margin(student.softmax(dim=1), teacher.softmax(dim=1), EACH)


def of_centered_views(online: Embeddings, target: Tensor | None) -> float:
    """Return the margin between both views without the mean row, which these losses do not see."""
    first, second = (online[name] - online[name].mean(dim=0) for name in ("first", "second"))
    return margin(first, second, EACH)


def of_first(name: str, start: int, stop: int) -> Callable[[Embeddings, Tensor], float]:
    """Return the margin against these columns of the target, which regions follow."""
    return lambda online, target: margin(online[name], target[:, start:stop], EACH)


HEAD = "hidden_width: 32, projection_width: 16"
DINO = "{name: dino, prototypes: 64, momentum: 0.9, hidden_width: 128, projection_width: 32}"
MOCO = f"{{name: mocov2, {HEAD}, queue_size: 8, momentum: 0.9}}"
SIMSIAM = "{name: simsiam, hidden_width: 32, projection_width: 32, predictor_width: 16}"


@pytest.mark.parametrize(
    ("override", "separation"),
    [
        ("method={name: cross_entropy}", of_classifier),
        (f"method={{name: simclr, {HEAD}}}", of_views("first", "second")),
        (f"method={{name: supcon, {HEAD}}}", of_projections),
        (f"method={{name: hcl, {HEAD}}}", of_projections),
        (f"method={{name: hcl, weighting: mass, {HEAD}}}", of_projections),
        (f"method={{name: hcl, weighting: ignore, {HEAD}}}", of_genera),
        (f"method={{name: hmlc, {HEAD}}}", of_genera),
        (
            "method={name: n_pairs, projection_width: 16}",
            lambda online, _: margin(online["embeddings"], online["embeddings"], SPECIES),
        ),
        ("method.noise.variant=none", of_targets("query")),
        (f"method={SIMSIAM}", of_views("p1", "z2")),
        (f"method={{name: byol, momentum: 0.9, {HEAD}}}", of_targets("prediction_first")),
        (f"method={DINO}", of_distributions),
        (f"method={{name: barlow_twins, {HEAD}}}", of_centered_views),
        (f"method={{name: vicreg, {HEAD}}}", of_centered_views),
        (f"method={{name: lcr, parts: 4, base: {MOCO}}}", of_targets("query")),
        (f"method={{name: sam_ssl_bilinear, parts: 4, base: {MOCO}}}", of_targets("query")),
        (f"method={{name: lewel, base: {{name: byol, momentum: 0.9, {HEAD}}}}}", of_first("prediction_first", 16, 32)),
        (f"method={{name: lewel, base: {MOCO}}}", of_first("query", 0, 16)),
        ("method.noise.variant=both", of_targets("query")),
        (f"method.base={SIMSIAM}", of_views("p1", "z2")),
        (f"method.base={{name: byol, momentum: 0.9, {HEAD}}}", of_targets("prediction_first")),
        (f"method.base={DINO}", of_distributions),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_overfits(
    override: str, separation: Callable[[Embeddings, Tensor | None], float], tiny_method: Callable[..., Any]
) -> None:
    fine = ("encoder.arguments.output_stride=8",) if "parts" in override or "lewel" in override else ()
    small = (*fine, "encoder.batch_norm_group_size=8", "training.global_batch_size=8")
    queue = () if "method=" in override or "method.base=" in override else ("method.base.queue_size=8",)
    recipes = ("views.recipes=[{}, {}]",) if "dino" in override else ()
    method = tiny_method(*small, *queue, *recipes, override)
    batch = blotches()
    method.prepare(lambda number: [batch.original])
    steps = 75 if hasattr(method, "bank") else 150  # with synthesized pairs a step has twice as many passes
    # SGD at this rate diverges under VICReg's weights, and DINO's head has no BatchNorm.
    by_adamw = separation in (of_distributions, of_centered_views)
    optimizer: torch.optim.Optimizer
    if by_adamw:
        optimizer = torch.optim.AdamW(method.trained_parameters(), lr=6e-4)
    else:
        optimizer = torch.optim.SGD(method.trained_parameters(), lr=0.1, momentum=0.9)
    start = parameters_to_vector(method.encoder.parameters()).detach()
    separations, losses, errors = [], [], []
    for step in range(steps):
        optimizer.zero_grad()
        output, online, target = accumulate_gradient(method, batch, IMAGES, 0)
        optimizer.step()
        method.after_step(online, target, step / steps)
        separations.append(separation(online, target))
        losses.append(output.loss.item())
        errors.append(float(output.metrics.get("reconstruction_error", 0.0)))
    floor = 0.95 if separation is of_classifier else 0.15
    assert separations[0] < 0.15
    assert separations[-1] > floor
    assert losses[-1] < losses[1] - 0.5  # at step 0 the keys in MoCo v2's queue are random, and easy
    moved = (parameters_to_vector(method.encoder.parameters()) - start).norm()
    assert moved > (0.03 if by_adamw else 0.1) * start.norm()
    if hasattr(method, "bank"):
        assert errors[-1] < 0.6 * errors[0]
