"""BYOL: predict the other view's projection by a slowly moving target network (Grill et al. 2020, arXiv:2006.07733)."""

import copy

import torch.nn.functional as F
from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.methods.build import Parts
from fgssl.methods.contrasted import Followed, Pairable
from fgssl.methods.ema import update_ema
from fgssl.schedules import Schedule
from fgssl.settings.methods import BYOLSettings


class BYOL(Pairable, Followed):
    """Online network with a predictor, and a target network that follows it as a moving average."""

    online_views = (0, 1)
    target_views = (0, 1)

    def __init__(self, settings: BYOLSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        hidden, width = settings.hidden_width, settings.projection_width
        self.head = _two_layers(parts.feature_width, hidden, width)
        self.predictor = _two_layers(width, hidden, width)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.target_head = copy.deepcopy(self.head).requires_grad_(False)

    @property
    def slow_networks(self) -> tuple[nn.Module, nn.Module]:
        """Target networks."""
        return self.target_encoder, self.target_head

    def embed(self, *features: Tensor) -> Embeddings:
        """Return `prediction_first` and `prediction_second`, (N, P) each."""
        first, second = (self.predictor(self.head(one)) for one in features)  # (N, P) each
        return {"prediction_first": first, "prediction_second": second}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the squared distance of each prediction to the other view's target projection, summed over both."""
        assert target is not None
        first, second = target.chunk(2, dim=1)  # projections (N, P) by the target network
        # Eq. 2 and its mirror image
        loss = _distance(online["prediction_first"], second) + _distance(online["prediction_second"], first)
        return Output(loss, {"projection_std": normalized_std(first)})

    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        """Move the target network towards the online one; the momentum rises to 1 along a cosine."""
        momentum = Schedule(self.settings.momentum, end=1.0).at(progress)
        update_ema(self.encoder, self.target_encoder, momentum)
        update_ema(self.head, self.target_head, momentum)

    # ---------------------------------------------------------------------------------- as a base of other methods

    def contrast(self, features: Tensor, online: Embeddings, target: Tensor | None) -> Tensor:
        """Return the squared distance (N,) of each feature's prediction to the second view's target projection."""
        assert target is not None
        prediction = losses.at_least_fp32(self.predictor(self.head(features)))
        return 2 - 2 * F.cosine_similarity(prediction, losses.at_least_fp32(target.chunk(2, dim=1)[1]), dim=1)

    def pair_embeddings(self, first: Tensor, second: Tensor) -> Embeddings:
        """Return projections and predictions of both images of each pair, (N, P) each."""
        z1, z2 = self.head(first), self.head(second)
        return {"pair_z1": z1, "pair_z2": z2, "pair_p1": self.predictor(z1), "pair_p2": self.predictor(z2)}

    def pair_loss(self, online: Embeddings, progress: float) -> Tensor:
        """Return the loss of BYOL on the pairs, whose targets are the online projections, without gradient.

        This is our choice; the target network would have to see both images of each pair too.
        """
        z1, z2 = online["pair_z1"].detach(), online["pair_z2"].detach()
        return _distance(online["pair_p1"], z2) + _distance(online["pair_p2"], z1)


def _distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance of paired rows at unit length (Eq. 2), which is 2 - 2 cos."""
    return 2 + 2 * losses.negative_cosine(prediction, target)


def _two_layers(width: int, hidden_width: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden_width), nn.BatchNorm1d(hidden_width), nn.ReLU(), nn.Linear(hidden_width, out_width)
    )
