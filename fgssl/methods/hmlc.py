"""HMLC: supervised contrastive learning in which no coarse level may be easier than a finer one (Zhang et al. 2022)."""

from torch import Tensor

from fgssl import losses
from fgssl.batch import Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.methods.build import Parts
from fgssl.methods.hcl import Leveled
from fgssl.settings.hierarchy import HMLCSettings


class HMLC(Leveled):
    """Method trained by `losses.himulcone`."""

    def __init__(self, settings: HMLCSettings, parts: Parts) -> None:
        super().__init__(settings, parts)
        self.settings = settings

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return `losses.himulcone` over all views."""
        embeddings, labels = self.rows(online)
        loss = losses.himulcone(embeddings, labels, self.settings.level_weights, self.settings.temperature)
        return Output(loss, {"projection_std": normalized_std(embeddings.detach())})
