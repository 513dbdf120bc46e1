"""SimSiam: each view predicts the other, without negatives (Chen and He 2021, arXiv:2011.10566)."""

import torch.nn.functional as F
from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Batch, Output, Rows
from fgssl.collapse import normalized_std
from fgssl.encoders.batch_norm import group_batch_norms
from fgssl.heads import normalized_projector, predictor
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.methods import SimSiamSettings


class SimSiam(Method):
    num_views = 2

    def __init__(self, settings: SimSiamSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        width = settings.projection_width
        head = normalized_projector(parts.feature_width, settings.hidden_width, width)
        self.head = group_batch_norms(head, parts.group_size)
        self.predictor = group_batch_norms(predictor(width, settings.predictor_width), parts.group_size)

    def rows(self, batch: Batch, targets: Tensor | None) -> Rows:
        z1, z2 = (self.head(self.encoder(view)) for view in batch.views)  # (N, P)
        return {"z1": z1, "z2": z2, "p1": self.predictor(z1), "p2": self.predictor(z2)}

    def loss(self, rows: Rows, targets: Tensor | None) -> Output:
        z1, z2 = rows["z1"].detach(), rows["z2"].detach()  # stop-gradient
        loss = losses.negative_cosine(rows["p1"], z2) / 2 + losses.negative_cosine(rows["p2"], z1) / 2
        return Output(loss, {"loss_contrast": loss.detach(), "projection_std": normalized_std(z1)})

    def constant_rate_parameters(self) -> list[nn.Parameter]:
        return list(self.predictor.parameters()) if self.settings.constant_predictor_rate else []

    # ------------------------------------------------------------------- what synthesized pairs ask for

    def contrast(self, features: Tensor, rows: Rows, targets: Tensor | None) -> Tensor:
        prediction = losses.at_least_fp32(self.predictor(self.head(features)))
        return -F.cosine_similarity(prediction, losses.at_least_fp32(rows["z2"].detach()), dim=1)

    def pair_rows(self, first: Tensor, second: Tensor) -> Rows:
        z1, z2 = self.head(first), self.head(second)
        return {"pair_z1": z1, "pair_z2": z2, "pair_p1": self.predictor(z1), "pair_p2": self.predictor(z2)}

    def pair_loss(self, rows: Rows) -> Tensor:
        z1, z2 = rows["pair_z1"].detach(), rows["pair_z2"].detach()
        return losses.negative_cosine(rows["pair_p1"], z2) / 2 + losses.negative_cosine(rows["pair_p2"], z1) / 2
