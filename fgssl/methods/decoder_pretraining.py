"""Decoder pretraining: rebuild resized images from a frozen encoder's features (*Synthesized Pairs*, Eq. 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings, Output
from fgssl.encoders.batch_norm import frozen_batch_norm_statistics
from fgssl.losses import at_least_fp32
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.methods import DecoderPretrainingSettings


class DecoderPretraining(Method):
    """Decoder trained on the features of a frozen encoder."""

    online_views = ()
    needs_original = True

    def __init__(self, settings: DecoderPretrainingSettings, parts: Parts) -> None:
        super().__init__()
        self.encoder = parts.encoder.requires_grad_(False)
        self.decoder = parts.decoder()

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `reconstruction_error` (N,), the mean squared error of each image's normalized pixels."""
        assert batch.original is not None
        # BatchNorm normalizes by groups, as in the training that follows, so that the decoder sees the same features.
        with torch.no_grad(), frozen_batch_norm_statistics(self.encoder):
            features = self.encoder(batch.original)  # (N, D)
        rebuilt = at_least_fp32(self.decoder(features))
        return {"reconstruction_error": F.mse_loss(rebuilt, batch.original, reduction="none").mean(dim=(1, 2, 3))}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the mean reconstruction error."""
        error = online["reconstruction_error"].mean()
        return Output(error, {"reconstruction_error": error.detach()})

    def exports(self) -> dict[str, nn.Module]:
        """Return the unchanged encoder and the decoder."""
        return {"encoder": self.encoder, "decoder": self.decoder}
