"""VICReg: views agree, while their embeddings keep their variance and no covariance (Bardes et al. 2022)."""

from torch import Tensor

from fgssl import losses
from fgssl.batch import Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.methods.barlow_twins import Expanded
from fgssl.methods.build import Parts
from fgssl.settings.without_negatives import VICRegSettings


class VICReg(Expanded):
    """Method trained by the weighted sum of `losses.vicreg_terms`."""

    def __init__(self, settings: VICRegSettings, parts: Parts) -> None:
        super().__init__(settings, parts)
        self.settings = settings

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the weighted sum of the invariance, the variance and the covariance of the batch (Eq. 6)."""
        settings = self.settings
        invariance, variance, covariance = losses.vicreg_terms(online["first"], online["second"])
        loss = (
            settings.invariance_weight * invariance
            + settings.variance_weight * variance
            + settings.covariance_weight * covariance
        )
        metrics = {
            "loss_invariance": invariance.detach(),
            "loss_variance": variance.detach(),
            "loss_covariance": covariance.detach(),
            "projection_std": normalized_std(online["first"].detach()),
        }
        return Output(loss, metrics)
