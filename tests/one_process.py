"""Training step on one process, for tests with a method and a batch; requires `python -m pytest` from the root."""

import contextlib
from typing import Any

import torch
from torch import Tensor

from fgssl import randomness
from fgssl.batch import Batch, Embeddings, Output
from fgssl.collectives import World
from fgssl.methods.method import Method
from fgssl.training.engines.ddp import DataParallel
from fgssl.training.grad_cache import Autocast, GradCache, Shuffled


def accumulate_gradient(
    method: Method, batch: Batch, shard_size: int, seed: int = 0, autocast: Autocast = contextlib.nullcontext
) -> tuple[Output, Embeddings, Tensor | None]:
    """Write the gradient of the batch's loss to `.grad`; `batch` holds all views."""
    optimizer: Any = torch.optim.SGD(method.trained_parameters(), lr=0.1)
    engine = DataParallel(method, optimizer, World())
    order = randomness.permutation(seed, "key_shuffle", batch.step, length=len(batch))
    shuffled = Shuffled(tuple(batch.views[view][order] for view in method.target_views), order)
    grad_cache = GradCache(World(), shard_size, exact=False, autocast=autocast)
    return grad_cache.accumulate_gradient(engine, batch, shuffled if method.target_views else None, progress=0.0)


def global_target(
    method: Method, batch: Batch, shard_size: int, seed: int = 0, autocast: Autocast = contextlib.nullcontext
) -> Tensor | None:
    return accumulate_gradient(method, batch, shard_size, seed, autocast)[2]
