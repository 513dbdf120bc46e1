"""n-pairs: in-batch softmax of cosine similarities against the pairs of one class, anchor included (Guan)."""

from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Batch, Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.methods import NPairsSettings


class NPairs(Method):
    """Encoder and a one-layer projector, trained by `losses.n_pairs`."""

    online_views = (0,)

    def __init__(self, settings: NPairsSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        # One layer with ReLU, as in the example that the course follows (keras.io, supervised contrastive learning).
        self.head = nn.Sequential(nn.Linear(parts.feature_width, settings.projection_width), nn.ReLU())

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `embeddings` (N, P) and `labels` (N,)."""
        embeddings = self.head(self.encoder(batch.views[0]))  # (N, P)
        return {"embeddings": embeddings, "labels": batch.labels[:, self.settings.level]}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return `losses.n_pairs` of the batch."""
        loss = losses.n_pairs(online["embeddings"], online["labels"], self.settings.temperature)
        return Output(loss, {"projection_std": normalized_std(online["embeddings"].detach())})
