"""One optimizer step's gradient, over the global batch in shards that fit into memory."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from fgssl import randomness
from fgssl.encoders.batch_norm import one_move_of_running_statistics, still_running_statistics
from fgssl.methods.method import Method
from fgssl.records import Batch, Output, Rows

Backward = Callable[[Tensor], None]
Autocast = Callable[[], AbstractContextManager[None]]


def global_targets(method: Method, batch: Batch, shard_size: int, seed: int, autocast: Autocast) -> Tensor | None:
    """Targets (N, P) of the whole batch, in its order; None for a method without.

    Computed on a shuffled batch (He et al. 2020, Sec. 3.3), so that a key shares its BatchNorm group with other images
    than its query does. The order is a function of (seed, step) over the *global* batch.
    """
    if not method.has_targets:
        return None
    order = torch.from_numpy(randomness.permutation(seed, "key_shuffle", batch.step, length=len(batch)))
    order = order.to(batch.indices.device)
    with torch.no_grad(), autocast(), one_move_of_running_statistics(method):
        shuffled = torch.cat([method.targets(batch.select(rows)) for rows in order.split(shard_size)])
    targets = torch.empty_like(shuffled)
    targets[order] = shuffled
    return targets


def accumulate_gradient(
    method: Method, batch: Batch, shard_size: int, seed: int, backward: Backward, autocast: Autocast
) -> tuple[Output, Rows, Tensor | None]:
    """Leave d loss / d parameters of the global batch in `.grad`; returns the output, detached rows, and targets.

    With several shards the rows are computed twice: without graph for the loss over all, then shard by shard with
    graph, each fed its rows' gradient (Gao et al. 2021, gradient cache). Memory is a shard's, the result the whole's.
    """
    targets = global_targets(method, batch, shard_size, seed, autocast)
    if shard_size >= len(batch):
        with autocast(), one_move_of_running_statistics(method):
            rows = method(batch, targets)
        output = method.loss(rows, targets)
        backward(output.loss)
        return output, _detached(rows), targets

    def shard_rows(start: int, shard: Batch) -> Rows:
        with autocast():
            return method(shard, None if targets is None else targets[start : start + len(shard)])

    starts = np.arange(0, len(batch), shard_size).tolist()
    with torch.no_grad(), one_move_of_running_statistics(method):
        parts = [shard_rows(start, shard) for start, shard in zip(starts, batch.shards(shard_size), strict=True)]
    leaves = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    for leaf in leaves.values():
        leaf.requires_grad_(leaf.is_floating_point())  # labels are rows too
    output = method.loss(leaves, targets)
    output.loss.backward()
    for start, shard in zip(starts, batch.shards(shard_size), strict=True):
        with still_running_statistics(method):  # moved once already
            rows = shard_rows(start, shard)
        surrogate = sum(
            (rows[name] * leaf.grad[start : start + len(shard)]).sum()
            for name, leaf in leaves.items()
            if leaf.grad is not None and rows[name].requires_grad
        )
        assert isinstance(surrogate, Tensor)
        backward(surrogate)
    return output, _detached(leaves), targets


def _detached(rows: Rows) -> Rows:
    return {name: value.detach() for name, value in rows.items()}
