"""SimCLR: two views of an image against all views of the batch (Chen et al. 2020, arXiv:2002.05709)."""

from torch import Tensor

from fgssl import losses
from fgssl.batch import Batch, Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.methods import SimCLRSettings


class SimCLR(Method):
    """Encoder and projector, trained by `losses.nt_xent`."""

    online_views = (0, 1)

    def __init__(self, settings: SimCLRSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        self.head = parts.projector(settings)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `first` and `second`, the projections (N, P) of both views."""
        first, second = (self.head(self.encoder(view)) for view in batch.views)  # (N, P) each
        return {"first": first, "second": second}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return `losses.nt_xent` of the batch."""
        loss = losses.nt_xent(online["first"], online["second"], self.settings.temperature)
        return Output(loss, {"projection_std": normalized_std(online["first"].detach())})
