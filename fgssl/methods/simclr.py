"""SimCLR: two views of an image against all views of the batch (Chen et al. 2020, arXiv:2002.05709)."""

from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Batch, Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.encoders.batch_norm import group_batch_norms
from fgssl.encoders.build import feature_width
from fgssl.heads import projector
from fgssl.methods.method import Method
from fgssl.settings.methods import SimCLRSettings


class SimCLR(Method):
    num_views = 2

    def __init__(self, settings: SimCLRSettings, encoder: nn.Module, batch_norm_group_size: int) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = encoder
        widths = (feature_width(encoder), settings.hidden_width, settings.projection_width)
        self.head = group_batch_norms(projector(*widths, settings.head_batch_norm), batch_norm_group_size)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        first, second = (self.head(self.encoder(view)) for view in batch.views)  # (N, P) each
        return {"first": first, "second": second}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        loss = losses.nt_xent(online["first"], online["second"], self.settings.temperature)
        return Output(loss, {"projection_std": normalized_std(online["first"].detach())})
