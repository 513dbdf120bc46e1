"""The host queues a step without waiting for the GPU, and still names the step that went wrong."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.step import made_up, make_trainer
from fgssl import device as devices
from fgssl.batch import Embeddings
from fgssl.data.loader import RawBatch
from fgssl.errors import NonFiniteError
from fgssl.interruption import Interruption
from fgssl.settings.config import Config
from fgssl.training.engines.engine import State
from fgssl.training.reporter import Listener
from fgssl.training.trainer import Trainer

TinyConfig = Callable[..., Config]


def make(config: Config) -> Trainer:
    trainer = make_trainer(config, devices.world(config.resources, config.training))
    trainer.total_steps = trainer.log_every_steps = 1000
    return trainer


def batches(trainer: Trainer, steps: int) -> Iterator[RawBatch]:
    batch = made_up(trainer, 32)
    for step in range(steps):
        yield dataclasses.replace(batch, step=step)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_of_every_method_waits_for_nothing(
    precision: str, tiny_config: TinyConfig, every_method: tuple[str, ...]
) -> None:
    trainer = make(tiny_config(*every_method, "resources.device=cuda", f"training.precision={precision}"))

    def watched(steps: range) -> Iterator[RawBatch]:
        for batch in batches(trainer, 5):
            if batch.step == 3:
                torch.cuda.set_sync_debug_mode("error")
            yield batch

    try:
        trainer.train(watched, Listener(), lambda state: None, Interruption())
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("checkpoint_every_s", [0.0, float("inf")])
def test_a_loss_that_is_no_number_is_named_and_never_saved(
    tiny_config: TinyConfig, checkpoint_every_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(tiny_config("method.noise.variant=none", "resources.device=cuda"))
    trainer.checkpoint_every_s = checkpoint_every_s
    loss = trainer.engine.method.loss

    def broken(online: Embeddings, target: Tensor | None, progress: float) -> Any:
        output = loss(online, target, progress)
        return dataclasses.replace(output, loss=output.loss * torch.nan) if trainer.step >= 2 else output

    monkeypatch.setattr(trainer.engine.method, "loss", broken)
    saved: list[int] = []

    def save(state: State) -> None:
        assert all(value.isfinite().all() for value in state["method"].values())
        saved.append(trainer.step)

    with pytest.raises(NonFiniteError, match=r"^step 2 \(epoch 0\): loss nan"):
        trainer.train(lambda steps: batches(trainer, 10), Listener(), save, Interruption())
    assert saved == ([1, 2] if checkpoint_every_s == 0 else [])
    assert trainer.step <= 4
