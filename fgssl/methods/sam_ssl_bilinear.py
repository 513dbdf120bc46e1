"""SAM-SSL-Bilinear: contrast bilinear features of parts that fit Grad-CAM (Shu et al. 2022, arXiv:2208.00617).

SAM is a method with labels. In this form, a row of Table 3 in *Synthesized Pairs*, the loss of a self-supervised method
replaces cross-entropy.
"""

from dataclasses import replace

from torch import Tensor, nn

from fgssl.encoders.feature_maps import as_map
from fgssl.methods.build import Parts
from fgssl.methods.grad_cam_fitting import GradCAMFitting
from fgssl.pooling import BilinearPooling, PartPooling, Pooled
from fgssl.settings.feature_maps import SAMSSLBilinearSettings


class SAMSSLBilinear(GradCAMFitting):
    """Base method on bilinear features; with a target network, the parts have a moving average too."""

    def __init__(self, settings: SAMSSLBilinearSettings, parts: Parts) -> None:
        pooling = BilinearPooling(parts.map_channels, settings.parts)
        base = replace(parts, encoder=Pooled(parts.encoder, pooling)).method(settings.base)
        super().__init__(settings, base)

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """Encoder whose feature map is pooled."""
        return self.base.encoder.encoder  # type: ignore[return-value]

    @property
    def pooling(self) -> PartPooling:  # type: ignore[override]
        """Pooling inside the base's encoder, of which a target network has a copy."""
        return self.base.encoder.pooling  # type: ignore[return-value]

    def features(self, found: Tensor, parts: Tensor) -> Tensor:
        """Return the bilinear features."""
        return self.pooling.pool(as_map(found, self.encoder), parts)

    def exports(self) -> dict[str, nn.Module]:
        """Return the encoder and its bilinear pooling."""
        return {"encoder": self.encoder, "bilinear": self.pooling}
