"""n-pairs: a batch's cosine similarities against who shares a class with whom, itself included (Guan's course)."""

from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Batch, Output, Rows
from fgssl.collapse import normalized_std
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.methods import NPairsSettings


class NPairs(Method):
    num_views = 1

    def __init__(self, settings: NPairsSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        # One layer with ReLU, as in the example that the course follows (keras.io, supervised contrastive learning).
        self.head = nn.Sequential(nn.Linear(parts.feature_width, settings.projection_width), nn.ReLU())

    def rows(self, batch: Batch, targets: Tensor | None) -> Rows:
        embeddings = self.head(self.encoder(batch.views[0]))  # (N, P)
        return {"embeddings": embeddings, "labels": batch.labels[:, self.settings.level]}

    def loss(self, rows: Rows, targets: Tensor | None) -> Output:
        loss = losses.n_pairs(rows["embeddings"], rows["labels"], self.settings.temperature)
        return Output(loss, {"projection_std": normalized_std(rows["embeddings"].detach())})
