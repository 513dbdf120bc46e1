"""SimSiam: each view predicts the other, without negatives (Chen and He 2021, arXiv:2011.10566)."""

import torch.nn.functional as F
from torch import Tensor

from fgssl import losses
from fgssl.batch import Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.heads import normalized_projector, predictor
from fgssl.methods.build import Parts
from fgssl.methods.contrasted import Pairable
from fgssl.methods.method import ParameterGroup
from fgssl.schedules import Schedule
from fgssl.settings.methods import SimSiamSettings


class SimSiam(Pairable):
    """Encoder, projector and predictor; the gradient stops at the view that is predicted."""

    online_views = (0, 1)

    def __init__(self, settings: SimSiamSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        width = settings.projection_width
        self.head = normalized_projector(parts.feature_width, settings.hidden_width, width)
        self.predictor = predictor(width, settings.predictor_width)

    def embed(self, *features: Tensor) -> Embeddings:
        """Return projections `z1`, `z2` and predictions `p1`, `p2`, (N, P) each."""
        z1, z2 = (self.head(one) for one in features)  # (N, P)
        return {"z1": z1, "z2": z2, "p1": self.predictor(z1), "p2": self.predictor(z2)}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the negative cosine of each prediction to the other view's projection, mean over both (Eq. 2)."""
        z1, z2 = online["z1"].detach(), online["z2"].detach()  # stop-gradient
        loss = losses.negative_cosine(online["p1"], z2) / 2 + losses.negative_cosine(online["p2"], z1) / 2
        return Output(loss, {"loss_contrast": loss.detach(), "projection_std": normalized_std(z1)})

    def parameter_groups(self, learning_rate: Schedule, weight_decay: Schedule) -> list[ParameterGroup]:
        """Return the predictor as a group of its own if its learning rate stays constant."""
        if not self.settings.constant_predictor_rate:
            return super().parameter_groups(learning_rate, weight_decay)
        predictor = list(self.predictor.parameters())
        others = [one for one in self.trained_parameters() if all(one is not other for other in predictor)]
        constant = Schedule(learning_rate.start, shape="constant")
        return [
            ParameterGroup(others, learning_rate, weight_decay),
            ParameterGroup(predictor, constant, weight_decay),
        ]

    # ---------------------------------------------------------------------------------- as a base of other methods

    def contrast(self, features: Tensor, online: Embeddings, target: Tensor | None) -> Tensor:
        """Return the negative cosine (N,) of each feature's prediction to the second view's projection."""
        prediction = losses.at_least_fp32(self.predictor(self.head(features)))
        return -F.cosine_similarity(prediction, losses.at_least_fp32(online["z2"].detach()), dim=1)

    def pair_embeddings(self, first: Tensor, second: Tensor) -> Embeddings:
        """Return projections and predictions of both images of each pair, (N, P) each."""
        z1, z2 = self.head(first), self.head(second)
        return {"pair_z1": z1, "pair_z2": z2, "pair_p1": self.predictor(z1), "pair_p2": self.predictor(z2)}

    def pair_loss(self, online: Embeddings, progress: float) -> Tensor:
        """Return the loss of SimSiam on the pairs."""
        z1, z2 = online["pair_z1"].detach(), online["pair_z2"].detach()
        return losses.negative_cosine(online["pair_p1"], z2) / 2 + losses.negative_cosine(online["pair_p2"], z1) / 2
