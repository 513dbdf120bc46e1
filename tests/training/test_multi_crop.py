"""Views of two sizes train in shards as in one batch, and resume exactly."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fgssl.batch import Batch
from fgssl.interruption import Interrupted
from fgssl.methods.build import RANDOM_START, build_method
from fgssl.run.execution import execute
from fgssl.settings.config import Config
from tests.conftest import EVERY_METHOD
from tests.multi_crop import RECIPES
from tests.one_process import accumulate_gradient


@pytest.fixture
def config(tiny_config: Callable[..., Config]) -> Config:
    small = ("encoder.batch_norm_group_size=4", "training.epochs=1")
    return tiny_config(*EVERY_METHOD["dino"], RECIPES, *small)


def test_the_gradient_of_shards_is_that_of_the_whole_batch(config: Config) -> None:
    views = tuple(torch.randn(32, 3, size, size, dtype=torch.float64) for size in (16, 16, 8, 8, 8))
    batch = Batch(0, torch.arange(32), torch.zeros(32, 2, dtype=torch.int64), views, original=None)
    gradients = []
    for shard_size in (32, 8):
        method = build_method(config, RANDOM_START, classes=(24, 6)).double()
        _, online, _ = accumulate_gradient(method, batch, shard_size)
        assert len(online) == 5
        gradients.append([parameter.grad for parameter in method.trained_parameters()])
    torch.testing.assert_close(*gradients)


def test_interrupted_and_resumed_equals_straight(config: Config, tmp_path: Path) -> None:
    straight = execute(config, tmp_path / "straight").trained()
    with pytest.raises(Interrupted):
        execute(config, tmp_path / "stopped", last_step=2)
    resumed = execute(config, tmp_path / "stopped").trained()
    assert straight is not None
    assert resumed is not None
    assert straight.steps == resumed.steps == 6
    assert straight.state_sha256 == resumed.state_sha256
