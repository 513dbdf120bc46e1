"""Real training step on random images, with counts of its traffic and memory, for the other benchmarks."""

import io
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fgssl.collectives import World
from fgssl.data.decoding import decode
from fgssl.data.loader import RawBatch
from fgssl.interruption import Interruption
from fgssl.methods.build import RANDOM_START, build_method
from fgssl.run import training
from fgssl.settings import config as configs
from fgssl.settings.config import Config
from fgssl.training.reporter import Listener
from fgssl.training.trainer import Trainer

CLASSES = (8, 4)
"""Number of classes of the random batch's labels, at two levels."""


def config_with(*overrides: str) -> Config:
    """Return a config of one epoch on the CPU without evaluation, with these overrides."""
    given = {"evaluation": None, "training": {"epochs": 1}, "resources": {"device": "cpu", "log_every_steps": 1}}
    mapping = configs.overridden(given, overrides)
    return configs.parse(mapping, "benchmark")


def make_trainer(config: Config, world: World) -> Trainer:
    """Return a trainer of random start weights that never saves by time."""
    method = build_method(config, RANDOM_START, CLASSES).to(world.device).to(memory_format=torch.channels_last)
    size = config.views.image_size
    originals = torch.randn(config.encoder.batch_norm_group_size, 3, size, size, device=world.device)
    method.prepare(lambda number: [originals])
    trainer = training.make_trainer(config, world, method, config.training.global_batch_size)
    trainer.checkpoint_every_s = float("inf")
    return trainer


def made_up(trainer: Trainer, global_batch_size: int) -> RawBatch:
    """Return a process's share of a batch of random images, with two images per class."""
    method, rows = trainer.engine.method, np.arange(global_batch_size)
    own, views = trainer.world.share(global_batch_size), trainer.views
    sizes = [*(recipe.image_size for recipe in views.recipes), *[views.settings.image_size] * method.needs_original]
    labels = np.stack([rows // 2 % classes for classes in CLASSES], axis=1)
    random = np.random.default_rng(trainer.world.rank)
    images = tuple(random.integers(0, 256, (len(rows[own]), size, size, 3), dtype=np.uint8) for size in sizes)
    return RawBatch(0, 0, 0, rows[own], rows, labels[own], images)


class MadeImages:
    """Split of random images in memory: JPEGs of smooth noise, 256 px."""

    def __init__(self, images: int) -> None:
        random = np.random.default_rng(0)
        self.encoded = []
        for _ in range(images):
            small = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            small.resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            self.encoded.append(buffer.getvalue())
        self.labels: NDArray[np.int64] = np.stack([np.arange(images) % 8, np.arange(images) % 4], axis=1)
        self.source_ids = [f"{row}.jpg" for row in range(images)]

    def __len__(self) -> int:
        return len(self.encoded)

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """Return the decoded image of one row."""
        return decode(self.encoded[row])


def train_one_step(trainer: Trainer, batch: RawBatch) -> None:
    """Take one step on `batch`, as step 0."""
    trainer.step = 0
    trainer.train(lambda steps: [batch], Listener(), lambda state: None, Interruption())


class Watched(TorchDispatchMode):
    """Context that counts the bytes given to torch.distributed, the memory of tensors, and operations.

    It sees calls from Python and from C++.
    """

    def __init__(self) -> None:
        super().__init__()
        self.given: Counter[str] = Counter()
        """Bytes that this process has given to each operation."""
        self.alive = self.most = 0
        """Bytes of the tensors made within the context that are in use, and their largest number so far."""
        self.flops = 0
        """Operations of products and convolutions, two for a multiplication and an addition."""
        self._storages: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        if function.namespace == "c10d" and function._opname not in ("recv_", "monitored_barrier_"):
            self.given[function._opname] += sum(tensor.nbytes for tensor in _input(function._opname, arguments))
        result = function(*arguments, **(keywords or {}))
        if (operations := flop_registry.get(function._overloadpacket)) is not None:
            self.flops += operations(*arguments, **(keywords or {}), out_val=result)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._storages:
            self._storages.add(storage._cdata)
            self.alive += storage.nbytes()
            self.most = max(self.most, self.alive)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, number: int, size: int) -> None:
        self._storages.discard(number)
        self.alive -= size


def _input(operation: str, arguments: Sequence[Any]) -> list[Tensor]:
    """Return the tensors that a process sends; operations whose name ends in `base_` take the result tensor first."""
    given = arguments[1] if operation.endswith("base_") else arguments[0]
    return [tensor for tensor in tree_leaves(given) if isinstance(tensor, Tensor)]
