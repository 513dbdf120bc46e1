"""Views of several sizes, all through the online branch and the first two through the target branch, as in DINO."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Batch, Embeddings, Output
from fgssl.collectives import World
from fgssl.data.loader import RawBatch
from fgssl.interruption import Interruption
from fgssl.methods.method import Method
from fgssl.settings.config import Config
from fgssl.training.engines.build import build_engine
from fgssl.training.reporter import Silence
from fgssl.training.trainer import Trainer
from fgssl.views.maker import ViewMaker

RECIPES = "views.recipes=[{count: 2, crop_area: [0.25, 1.0]}, {count: 3, crop_area: [0.05, 0.25], image_size: 8}]"


class MultiCrop(Method):
    num_views = 5
    target_views = (0, 1)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.sizes: list[list[int]] = []

    @torch.no_grad()
    def target(self, *views: Tensor) -> Tensor:
        return torch.cat([self.encoder(view) for view in views], dim=1)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        self.sizes.append([view.shape[-1] for view in batch.views])
        return {str(view): self.encoder(images) for view, images in enumerate(batch.views)}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        assert target is not None
        pairs = [
            (online[view], other)
            for view in online
            for place, other in enumerate(target.chunk(2, dim=1))
            if int(view) != place
        ]
        return Output(torch.stack([losses.negative_cosine(*pair) for pair in pairs]).mean(), {})


def batches(steps: range) -> Iterator[RawBatch]:
    rows, labels = np.arange(32), np.zeros((32, 2), dtype=np.int64)
    for step in steps:
        random = np.random.default_rng(step)
        crops = tuple(random.integers(0, 256, (32, size, size, 3), dtype=np.uint8) for size in (16, 16, 8, 8, 8))
        yield RawBatch(step, step, step, rows, rows, labels, crops)


def trained(config: Config, shard_size: int) -> MultiCrop:
    torch.manual_seed(0)
    method = MultiCrop()
    groups = method.parameter_groups(config.training.learning_rate, config.training.weight_decay)
    Trainer(
        engine=build_engine(method, groups, config.training, config.resources, World()),
        groups=groups,
        world=World(),
        settings=config.training,
        views=ViewMaker(config.views, method.num_views, seed=0, shard_size=shard_size),
        seed=0,
        total_steps=3,
        shard_size=shard_size,
        autocast=contextlib.nullcontext,
        log_every_steps=1,
        checkpoint_every_s=1000.0,
    ).train(batches, Silence(), lambda state: None, Interruption())
    return method


@pytest.mark.parametrize("invariant", ["close", "exact"])
def test_shards_of_views_of_two_sizes_train_as_the_whole_batch(
    invariant: str, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(
        RECIPES, "method={name: simclr}", "training.optimizer.learning_rate=0.5", f"training.invariant={invariant}"
    )
    whole, in_shards = trained(config, 32), trained(config, 8)
    assert {tuple(sizes) for sizes in whole.sizes + in_shards.sizes} == {(16, 16, 8, 8, 8)}
    for one, other in zip(whole.parameters(), in_shards.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    torch.manual_seed(0)
    for start, end in zip(MultiCrop().parameters(), whole.parameters(), strict=True):
        assert not torch.allclose(start, end, atol=1e-3)
