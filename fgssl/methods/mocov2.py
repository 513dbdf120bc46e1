"""MoCo v2: a query against its key and a queue of past keys (He et al. 2020; Chen et al. 2020, arXiv:2003.04297)."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgssl import losses, randomness
from fgssl.batch import Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.heads import projector
from fgssl.methods.build import Parts
from fgssl.methods.contrasted import Followed, Pairable
from fgssl.methods.ema import update_ema
from fgssl.settings.methods import MoCoV2Settings


class MoCoV2(Pairable, Followed):
    """Query and key encoders with projectors, and a queue of past keys as negatives."""

    online_views = (0,)
    target_views = (1,)
    queue: Tensor
    queue_position: Tensor

    def __init__(self, settings: MoCoV2Settings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        self.head = projector(parts.feature_width, settings.hidden_width, settings.projection_width)
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.head).requires_grad_(False)
        rows, width = np.arange(settings.queue_size), settings.projection_width
        start = randomness.normal(parts.seed, "queue", rows=rows, columns=width)
        self.register_buffer("queue", F.normalize(torch.from_numpy(start).float(), dim=1))  # (K, P)
        self.register_buffer("queue_position", torch.zeros((), dtype=torch.int64))

    @property
    def slow_networks(self) -> tuple[nn.Module, nn.Module]:
        """Key networks."""
        return self.key_encoder, self.key_head

    @torch.no_grad()
    def embed_target(self, *features: Tensor) -> Tensor:
        """Return the normalized keys (N, P)."""
        keys = self.key_head(features[0])  # (N, P)
        return F.normalize(losses.at_least_fp32(keys), dim=1)

    def embed(self, *features: Tensor) -> Embeddings:
        """Return `query` (N, P)."""
        return {"query": self.head(features[0])}  # queries: (N, P)

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the mean InfoNCE loss of the queries against their keys and the queue."""
        loss = self._contrast(online["query"], target).mean()
        return Output(
            loss, {"loss_contrast": loss.detach(), "projection_std": normalized_std(online["query"].detach())}
        )

    def _contrast(self, queries: Tensor, keys: Tensor | None) -> Tensor:
        assert keys is not None
        return losses.info_nce_per_row(queries, keys, self.queue, self.settings.temperature)  # (N,)

    @torch.no_grad()
    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        """Move the key networks towards the query networks, and overwrite the oldest keys of the queue."""
        assert target is not None
        update_ema(self.encoder, self.key_encoder, self.settings.momentum)
        update_ema(self.head, self.key_head, self.settings.momentum)
        # The position stays on the device. No batch wraps around, since the queue holds a whole number of batches.
        rows = self.queue_position + torch.arange(len(target), device=self.queue.device)
        self.queue.index_copy_(0, rows, target.to(self.queue.dtype))
        self.queue_position.add_(len(target)).remainder_(len(self.queue))

    # ---------------------------------------------------------------------------------- as a base of other methods

    def contrast(self, features: Tensor, online: Embeddings, target: Tensor | None) -> Tensor:
        """Return the InfoNCE loss (N,) of each feature's projection against the key of its image."""
        return self._contrast(self.head(features), target)

    def pair_embeddings(self, first: Tensor, second: Tensor) -> Embeddings:
        """Return the projections (N, P) of both images of each pair."""
        return {"pair_first": self.head(first), "pair_second": self.head(second)}

    def pair_loss(self, online: Embeddings, progress: float) -> Tensor:
        """Return NT-Xent of the pairs."""
        return losses.nt_xent(online["pair_first"], online["pair_second"], self.settings.temperature)
