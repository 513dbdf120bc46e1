"""MoCo v2: a query against its key and a queue of past keys (He et al. 2020; Chen et al. 2020, arXiv:2003.04297)."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgssl import losses, randomness
from fgssl.encoders.build import feature_width
from fgssl.heads import projector
from fgssl.methods.method import Method
from fgssl.methods.settings import MoCoV2Settings
from fgssl.records import Batch, Output, Rows


class MoCoV2(Method):
    num_views = 2
    queue: Tensor
    queue_position: Tensor

    def __init__(self, settings: MoCoV2Settings, encoder: nn.Module, seed: int) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = encoder
        self.head = projector(feature_width(encoder), settings.hidden_width, settings.projection_width)
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.head).requires_grad_(False)
        start = randomness.normal(seed, "queue", rows=np.arange(settings.queue_size), columns=settings.projection_width)
        self.register_buffer("queue", F.normalize(torch.from_numpy(start).float(), dim=1))  # (K, P)
        self.register_buffer("queue_position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        keys = self.key_head(self.key_encoder(batch.views[1]))  # (N, P)
        return F.normalize(losses.at_least_fp32(keys), dim=1)

    def rows(self, batch: Batch, targets: Tensor | None) -> Rows:
        return {"query": self.project(self.encoder(batch.views[0]))}  # queries: (N, P)

    def loss(self, rows: Rows, targets: Tensor | None) -> Output:
        per_row = self.contrast(rows["query"], targets)  # (N,)
        queries = F.normalize(rows["query"].detach().float(), dim=1)
        # Of the unit vectors, times sqrt(P): 1 when spread evenly over the sphere, 0 when collapsed to a point.
        spread = queries.std(dim=0).mean() * queries.shape[1] ** 0.5
        return Output(per_row.mean(), {"loss_contrast": per_row.detach().mean(), "query_std": spread})

    @torch.no_grad()
    def after_step(self, rows: Rows, targets: Tensor | None) -> None:
        assert targets is not None
        self._move_average(self.encoder, self.key_encoder)
        self._move_average(self.head, self.key_head)
        start = int(self.queue_position)  # the queue holds a whole number of batches: no wrap inside one
        self.queue[start : start + len(targets)] = targets.to(self.queue.dtype)
        self.queue_position.fill_((start + len(targets)) % len(self.queue))

    def cautions(self, dataset_size: int) -> list[str]:
        rows = len(self.queue)
        if rows <= dataset_size:
            return []
        return [
            f"queue_size {rows} exceeds the {dataset_size} training images: the queue holds about "
            f"{rows / dataset_size:.0f} stale keys of every image, its own among its negatives"
        ]

    def _move_average(self, online: nn.Module, key: nn.Module) -> None:
        online_weights = [parameter.detach() for parameter in online.parameters()]
        torch._foreach_lerp_(list(key.parameters()), online_weights, 1 - self.settings.momentum)

    # ------------------------------------------------------------------- what synthesized pairs ask for

    def project(self, features: Tensor) -> Tensor:
        projections: Tensor = self.head(features)
        return projections

    def contrast(self, projections: Tensor, targets: Tensor | None) -> Tensor:
        assert targets is not None
        return losses.info_nce_per_row(projections, targets, self.queue, self.settings.temperature)

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        return losses.nt_xent(first, second, self.settings.temperature)
