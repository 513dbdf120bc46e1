"""SupCon: all views of a class are each other's positives (Khosla et al. 2020, arXiv:2004.11362)."""

import torch
from torch import Tensor

from fgssl import losses
from fgssl.batch import Batch, Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.methods import SupConSettings


class SupCon(Method):
    """Encoder and projector, trained by `losses.supcon`."""

    online_views = (0, 1)

    def __init__(self, settings: SupConSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        self.head = parts.projector(settings)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `projections` (N, V, P) of V views and `labels` (N,)."""
        projections = torch.stack([self.head(self.encoder(view)) for view in batch.views], dim=1)  # (N, V, P)
        return {"projections": projections, "labels": batch.labels[:, self.settings.level]}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return `losses.supcon` over all views."""
        embeddings = online["projections"].flatten(0, 1)  # (N*V, P)
        labels = online["labels"].repeat_interleave(self.num_views)  # (N*V,)
        loss = losses.supcon(embeddings, labels, self.settings.temperature)
        return Output(loss, {"projection_std": normalized_std(embeddings.detach())})
