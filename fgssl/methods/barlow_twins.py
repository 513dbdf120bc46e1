"""Barlow Twins: each dimension agrees between views and differs from the others (Zbontar et al. 2021)."""

from torch import Tensor

from fgssl import losses
from fgssl.batch import Batch, Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.heads import expander
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.without_negatives import BarlowTwinsSettings, ExpandedSettings


class Expanded(Method):
    """Encoder and expander, whose loss compares the dimensions of two views over the batch."""

    online_views = (0, 1)

    def __init__(self, settings: ExpandedSettings, parts: Parts) -> None:
        super().__init__()
        self.encoder = parts.encoder
        self.head = expander(parts.feature_width, settings.hidden_width, settings.projection_width)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `first` and `second`, the projections (N, P) of both views."""
        first, second = (self.head(self.encoder(view)) for view in batch.views)  # (N, P) each
        return {"first": first, "second": second}


class BarlowTwins(Expanded):
    """Method trained by `losses.barlow_twins`."""

    def __init__(self, settings: BarlowTwinsSettings, parts: Parts) -> None:
        super().__init__(settings, parts)
        self.settings = settings

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return `losses.barlow_twins` of the batch."""
        loss = losses.barlow_twins(online["first"], online["second"], self.settings.redundancy_weight)
        return Output(loss, {"projection_std": normalized_std(online["first"].detach())})
