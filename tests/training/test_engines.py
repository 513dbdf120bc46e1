"""Engines on one process and their gradients; tests/distributed covers several processes."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fgssl.batch import Batch
from fgssl.collectives import World
from fgssl.encoders.checkpointing import checkpoint_activations
from fgssl.errors import SettingsError
from fgssl.run.execution import execute
from fgssl.settings.config import Config
from fgssl.training.engines.ddp import DataParallel
from fgssl.training.engines.engine import Engine
from fgssl.training.engines.exact import Exact
from fgssl.training.grad_cache import GradCache

SIMCLR = "method={name: simclr, hidden_width: 16, projection_width: 8}"


@pytest.fixture(params=["ddp", "exact"])
def make_engine(request: pytest.FixtureRequest, tiny_method: Callable[..., Any]) -> Callable[..., Engine]:
    """Return `make_engine(clip_norm)`, an engine for SimCLR with plain SGD and learning rate 1."""

    def make(clip_norm: float | None) -> Engine:
        method, world = tiny_method(SIMCLR), World()
        optimizer = torch.optim.SGD(method.trained_parameters(), lr=1.0)
        if request.param == "ddp":
            return DataParallel(method, optimizer, world, clip_norm)
        return Exact(DataParallel(method, optimizer, world), world, clip_norm)

    return make


def one_step(engine: Engine, batch: Batch) -> tuple[float, float]:
    """Return the norm that the engine reports, and the norm of the change of the weights."""
    before = [parameter.detach().clone() for parameter in engine.method.parameters()]
    GradCache(World(), len(batch), exact=False, autocast=contextlib.nullcontext).accumulate_gradient(
        engine, batch, None, progress=0.0
    )
    norm = float(engine.step())
    moves = [new.detach() - old for new, old in zip(engine.method.parameters(), before, strict=True)]
    return norm, float(torch.nn.utils.get_total_norm(moves))


def test_a_long_gradient_is_clipped_and_a_short_one_is_not(
    make_engine: Callable[..., Engine], random_batch: Callable[..., Batch]
) -> None:
    norm, moved = one_step(make_engine(None), random_batch())
    assert moved == pytest.approx(norm, rel=1e-4)
    clipped_norm, clipped_move = one_step(make_engine(norm / 10), random_batch())
    assert clipped_norm == pytest.approx(norm, rel=1e-5)
    assert clipped_move == pytest.approx(norm / 10, rel=1e-3)
    assert one_step(make_engine(norm * 10), random_batch()) == pytest.approx((norm, moved), rel=1e-5)


def test_no_step_is_taken_with_a_gradient_that_is_not_finite(
    make_engine: Callable[..., Engine], random_batch: Callable[..., Batch]
) -> None:
    engine, batch = make_engine(1.0), random_batch()
    batch.views[0][0] = math.inf
    norm, moved = one_step(engine, batch)
    assert not math.isfinite(norm)
    assert moved == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_forgetting_feature_maps_changes_nothing(
    precision: str, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    states = []
    for option in ("false", "true"):
        settings = (SIMCLR, f"training.precision={precision}", f"resources.activation_checkpointing={option}")
        trained = execute(tiny_config(*settings, "training.epochs=1"), tmp_path / option).trained()
        assert trained is not None
        states.append(trained.state_sha256)
    assert states[0] == states[1]


def test_forgotten_feature_maps_are_computed_again(tiny_method: Callable[..., Any]) -> None:
    encoder, passes = tiny_method(SIMCLR).encoder, []
    checkpoint_activations(encoder)
    encoder.layer2[0].conv1.register_forward_hook(lambda *_: passes.append(1))
    features = encoder(torch.randn(16, 3, 16, 16))
    assert len(passes) == 1
    features.sum().backward()
    assert len(passes) == 2


def test_an_encoder_that_cannot_forget_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"resources\.activation_checkpointing: Linear has no such option"):
        checkpoint_activations(torch.nn.Linear(2, 2))
