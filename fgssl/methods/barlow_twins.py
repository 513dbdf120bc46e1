"""Barlow Twins: each dimension agrees between views and differs from the others (Zbontar et al. 2021)."""

from torch import Tensor

from fgssl import losses
from fgssl.batch import Batch, Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.heads import expander
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.without_negatives import BarlowTwinsSettings


class BarlowTwins(Method):
    """Encoder and projector, trained by `losses.barlow_twins`."""

    online_views = (0, 1)

    def __init__(self, settings: BarlowTwinsSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        self.head = expander(parts.feature_width, settings.hidden_width, settings.projection_width)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `first` and `second`, the projections (N, P) of both views."""
        first, second = (self.head(self.encoder(view)) for view in batch.views)  # (N, P) each
        return {"first": first, "second": second}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return `losses.barlow_twins` of the batch."""
        loss = losses.barlow_twins(online["first"], online["second"], self.settings.redundancy_weight)
        return Output(loss, {"projection_std": normalized_std(online["first"].detach())})
