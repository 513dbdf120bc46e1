"""Inputs of the optimizer and the method at each step of the trainer."""

import contextlib
import math
from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings, Output
from fgssl.collectives import World
from fgssl.data.loader import RawBatch
from fgssl.interruption import Interruption
from fgssl.methods.method import Method, ParameterGroup
from fgssl.schedules import Schedule
from fgssl.settings.config import Config
from fgssl.training.engines.ddp import DataParallel
from fgssl.training.reporter import Reporter
from fgssl.training.trainer import Trainer
from fgssl.views.maker import ViewMaker


class Spy(Method):
    online_views = (0,)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 2)
        self.predictor = nn.Linear(2, 1)
        self.told: list[float] = []

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        return {"prediction": self.predictor(self.encoder(batch.views[0].mean(dim=(2, 3))))}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        self.told.append(progress)
        return Output(online["prediction"].square().mean(), {})

    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        self.told.append(progress)

    def parameter_groups(self, learning_rate: Schedule, weight_decay: Schedule) -> list[ParameterGroup]:
        constant = Schedule(learning_rate.start, shape="constant")
        return [
            ParameterGroup(list(self.encoder.parameters()), learning_rate, weight_decay),
            ParameterGroup(list(self.predictor.parameters()), constant, Schedule(0.0)),
        ]


def batches(steps: range) -> list[RawBatch]:
    images = (np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), dtype=np.uint8),)
    rows = np.arange(32)
    return [RawBatch(step, 0, 0, rows, rows, np.zeros((32, 2), dtype=np.int64), images) for step in steps]


RATES = ("optimizer={learning_rate: 0.8, weight_decay: 0.1}", "weight_decay_end=0.3")
COSINE = [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]  # at 0, 1/4, 1/2 and 3/4


@pytest.mark.parametrize(
    ("overrides", "first", "factors"),
    [
        ((), 0.8, COSINE),
        (("learning_rate_per_256=true",), 0.1, COSINE),  # 32 images a batch: an eighth
        (("schedule=constant", "warm_up_epochs=1"), 0.8, [0.0, 0.5, 1.0, 1.0]),  # over the first half of 2 epochs
    ],
)
def test_rates_and_progress_of_every_step(
    overrides: tuple[str, ...], first: float, factors: list[float], tiny_config: Callable[..., Config]
) -> None:
    """Also of a training that goes on from step 1: both are of the whole."""
    config = tiny_config(*(f"training.{item}" for item in (*RATES, *overrides)))
    for start in (0, 1):
        method, reporter = Spy(), Mock(spec=Reporter)
        groups = method.parameter_groups(config.training.learning_rate, config.training.weight_decay)
        optimizer = torch.optim.SGD([{"params": group.parameters} for group in groups], lr=123.0, weight_decay=123.0)
        steps: list[list[dict[str, float]]] = []
        optimizer.register_step_pre_hook(
            lambda optimizer, *_, steps=steps: steps.append([dict(group) for group in optimizer.param_groups])
        )
        trainer = Trainer(
            engine=DataParallel(method, optimizer, World()),
            groups=groups,
            world=World(),
            settings=config.training,
            views=ViewMaker(config.views, num_views=1, seed=0, shard_size=32),
            seed=0,
            total_steps=4,
            shard_size=32,
            autocast=contextlib.nullcontext,
            log_every_steps=1,
            checkpoint_every_s=1000.0,
            step=start,
        )
        trainer.train(batches, reporter, lambda state: None, Interruption())
        decayed = pytest.approx([first * factor for factor in factors[start:]])
        assert [encoder["lr"] for encoder, _ in steps] == decayed
        assert [predictor["lr"] for _, predictor in steps] == pytest.approx([first] * (4 - start))
        rising = pytest.approx([0.3 - 0.2 * factor for factor in COSINE[start:]])
        assert [encoder["weight_decay"] for encoder, _ in steps] == rising
        assert [predictor["weight_decay"] for _, predictor in steps] == [0.0] * (4 - start)
        assert [call.args[1]["learning_rate"] for call in reporter.log.call_args_list] == decayed
        assert method.told == [progress for progress in (0.0, 0.25, 0.5, 0.75)[start:] for _ in ("loss", "after_step")]
