"""LCR: fit an attention of small capacity to Grad-CAM, and pool by it (Shu et al. 2023, arXiv:2303.01669)."""

from torch import Tensor, nn

from fgssl.encoders.feature_maps import pooled, refuse_unused_maps
from fgssl.methods.build import Parts
from fgssl.methods.grad_cam_fitting import GradCAMFitting
from fgssl.pooling import AttentionPooling
from fgssl.settings.feature_maps import LCRSettings


class LCR(GradCAMFitting):
    """Base method on the encoder's own features, and attention beside it that pools in the evaluation only."""

    def __init__(self, settings: LCRSettings, parts: Parts) -> None:
        super().__init__(settings, parts.method(settings.base))
        self.pooling = AttentionPooling(parts.map_channels, settings.parts)
        refuse_unused_maps(parts.encoder, parts.config.views.image_size)

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """Encoder of the base method."""
        return self.base.encoder

    def features(self, found: Tensor, parts: Tensor) -> Tensor:
        """Return the encoder's own features."""
        return pooled(self.encoder, found)

    def exports(self) -> dict[str, nn.Module]:
        """Return the encoder and its pooling by attention."""
        return {"encoder": self.encoder, "attention": self.pooling}
