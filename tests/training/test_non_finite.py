"""Non-finite values stop a training before they reach the weights."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl import device as devices
from fgssl.batch import Embeddings
from fgssl.data.loader import RawBatch
from fgssl.errors import NonFiniteError
from fgssl.interruption import Interruption
from fgssl.settings.config import Config
from fgssl.training.engines.build import build_engine
from fgssl.training.reporter import Listener
from fgssl.training.trainer import Trainer
from fgssl.views.maker import ViewMaker


def rows(step: int) -> NDArray[np.int64]:
    return np.arange(32) + 100 * step


def batches(steps: range) -> list[RawBatch]:
    images = tuple(np.random.default_rng(0).integers(0, 256, (3, 32, 16, 16, 3), dtype=np.uint8))
    labels = np.zeros((32, 2), dtype=np.int64)
    return [RawBatch(step, step // 3, step // 3, rows(step), rows(step), labels, images) for step in steps]


@pytest.fixture
def trainer(tiny_config: Callable[..., Config], tiny_method: Callable[..., Any]) -> Trainer:
    config, method = tiny_config("method.noise.variant=none"), tiny_method("method.noise.variant=none")
    world = devices.world(config.resources, config.training)
    groups = method.parameter_groups(config.training.learning_rate, config.training.weight_decay)
    return Trainer(
        engine=build_engine(method, groups, config.training, config.resources, world),
        groups=groups,
        world=world,
        settings=config.training,
        views=ViewMaker(config.views, num_views=2, seed=0, shard_size=32),
        seed=0,
        total_steps=6,
        shard_size=32,
        autocast=contextlib.nullcontext,
        log_every_steps=1,
        checkpoint_every_s=1000.0,
    )


def fail_at(step: int, what: str, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the loss from `step` on by NaN, or by a loss with an infinite gradient."""
    loss = trainer.engine.method.loss

    def broken(online: Embeddings, target: Tensor | None, progress: float) -> Any:
        output = loss(online, target, progress)
        if trainer.step < step:
            return output
        if what == "loss":
            return type(output)(output.loss * torch.nan, output.metrics)
        return type(output)(output.loss + (online["query"] * 0).abs().sum().sqrt(), output.metrics)

    monkeypatch.setattr(trainer.engine.method, "loss", broken)


@pytest.mark.parametrize(("what", "said"), [("loss", "loss nan"), ("gradient", "gradient norm nan")])
def test_the_error_names_step_and_rows(what: str, said: str, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(4, what, trainer, monkeypatch)
    with pytest.raises(NonFiniteError) as caught:
        trainer.train(batches, Listener(), lambda state: None, Interruption())
    message = str(caught.value)
    assert message.startswith("step 4 (epoch 1): loss ")
    assert said in message
    assert f"dataset rows of the batch: {list(range(400, 432))}" in message
    assert trainer.step == 4
    assert all(value.isfinite().all() for value in trainer.engine.method.state_dict().values())


def test_finite_values_go_through(trainer: Trainer) -> None:
    trainer.train(batches, Listener(), lambda state: None, Interruption())
    assert trainer.step == 6
