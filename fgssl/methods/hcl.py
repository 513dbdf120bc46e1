"""HCL: supervised contrastive learning on several levels of labels (Chamidullin).

A pair of one species is a positive of weight 1; a pair of one genus is only a soft positive of weight lambda.
"""

import torch
from torch import Tensor

from fgssl import losses
from fgssl.batch import Batch, Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.hierarchy import HCLSettings, LeveledSettings


class Leveled(Method):
    """Encoder and projector, whose loss needs labels on several levels."""

    online_views = (0, 1)

    def __init__(self, settings: LeveledSettings, parts: Parts) -> None:
        super().__init__()
        self.levels = len(settings.level_weights)
        self.encoder = parts.encoder
        self.head = parts.projector(settings)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `projections` (N, V, P) of V views and `labels` (N, L)."""
        projections = torch.stack([self.head(self.encoder(view)) for view in batch.views], dim=1)  # (N, V, P)
        return {"projections": projections, "labels": batch.labels[:, : self.levels]}

    def rows(self, online: Embeddings) -> tuple[Tensor, Tensor]:
        """Return the projections (N*V, P) of all views as rows, and their labels (N*V, L)."""
        return online["projections"].flatten(0, 1), online["labels"].repeat_interleave(self.num_views, dim=0)


class HCL(Leveled):
    """Method trained by `losses.hcl`."""

    def __init__(self, settings: HCLSettings, parts: Parts) -> None:
        super().__init__(settings, parts)
        self.settings = settings

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return `losses.hcl` over all views, and the share of the targets' mass on each level."""
        settings = self.settings
        embeddings, labels = self.rows(online)
        loss = losses.hcl(embeddings, labels, settings.level_weights, settings.temperature, settings.weighting)
        mass = losses.target_mass(labels, settings.level_weights, settings.weighting)  # (L,)
        return Output(
            loss,
            {"projection_std": normalized_std(embeddings.detach())}
            | {f"target_mass_level{level}": share for level, share in enumerate(mass)},
        )
