"""Synthesized Pairs: contrast an image, rebuilt from its feature, with one rebuilt from its feature plus noise.

The noise is large in dimensions that do not discriminate. The loss is Eq. 8 of *Synthesized Pairs* (Wang et al., ECCV
2024), L = L_C + alpha L_R + nu L_P, on any base method. L_C is the base's loss on two views, L_R rebuilds the resized
image x from its feature f, and L_P makes the encoder agree on Dec(f) and Dec(f + noise).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings, Output
from fgssl.encoders.batch_norm import frozen_batch_norm_statistics
from fgssl.losses import at_least_fp32
from fgssl.methods.build import Parts
from fgssl.methods.contrasted import Pairable
from fgssl.methods.method import Method, ParameterGroup
from fgssl.noises.perturbation import Perturbation
from fgssl.schedules import Schedule
from fgssl.settings.methods import SynthesizedSettings


class Synthesized(Method):
    """Base method with a decoder, a feature bank and noise."""

    needs_original = True
    bank: Tensor
    bank_filled: Tensor

    def __init__(self, settings: SynthesizedSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        base = parts.method(settings.base)
        assert isinstance(base, Pairable)
        self.base = base
        self.online_views, self.target_views = base.online_views, base.target_views
        self.decoder = parts.decoder()
        self.perturbation = Perturbation(settings.noise, parts.seed)
        self.register_buffer("bank", torch.zeros(settings.bank_size, parts.feature_width))  # (K, D), oldest row first
        self.register_buffer("bank_filled", torch.zeros((), dtype=torch.int64))
        self._filled = 0  # `bank_filled` on the host, so that no step waits for the device
        self.register_load_state_dict_post_hook(Synthesized._count_filled)

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """Encoder of the base method."""
        return self.base.encoder

    @torch.no_grad()
    def prepare(self, originals: Callable[[int], Iterable[Tensor]]) -> None:
        """Prepare the base, and fill the bank with features of the start encoder."""
        self.base.prepare(originals)
        with frozen_batch_norm_statistics(self.encoder):  # the bank starts with features of the start encoder
            for original in originals(len(self.bank)):
                self._append_to_bank(self.encoder(original))

    def target(self, *views: Tensor) -> Tensor:
        """Return the target of the base."""
        return self.base.target(*views)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return the embeddings of the base, of the reconstruction and, if they are weighted, of the pairs."""
        assert batch.original is not None
        online = self.base.online(batch, target)
        # One forward of the original serves reconstruction, Grad-CAM, noise and bank.
        with frozen_batch_norm_statistics(self.encoder):
            features = self.encoder(batch.original)  # f: (N, D)
        rebuilt = self.decoder(features)  # Dec(f): (N, C, H, W)
        error = F.mse_loss(at_least_fp32(rebuilt), batch.original, reduction="none").mean(dim=(1, 2, 3))  # Eq. 2: (N,)
        online |= {"feature": at_least_fp32(features), "reconstruction_error": error}
        if self.settings.pair_weight:
            with frozen_batch_norm_statistics(self.base):  # including its head and predictor
                online |= self._pair_embeddings(batch, online, target, features, rebuilt)
        return online

    def _pair_embeddings(
        self, batch: Batch, online: Embeddings, target: Tensor | None, features: Tensor, rebuilt: Tensor
    ) -> Embeddings:
        fixed = at_least_fp32(features.detach())
        noise = self.perturbation(
            fixed,
            gradient=self._contrast_gradient(fixed, online, target),
            bank=self.bank[-self._filled :],
            step=batch.step,
            indices=batch.indices,
        )
        source = features.detach() if self.settings.detach_pairs else features
        learns = torch.is_grad_enabled() and not self.settings.detach_pairs
        with torch.set_grad_enabled(learns), frozen_batch_norm_statistics(self.decoder):
            rebuilt_perturbed = self.decoder(source + noise.delta)  # Dec(f_p): (N, C, H, W)
        if self.settings.detach_pairs:
            rebuilt = rebuilt.detach()
        first, second = (self.encoder(at_least_fp32(images)) for images in (rebuilt, rebuilt_perturbed))  # (N, D)
        return self.base.pair_embeddings(first, second) | noise.measures

    def _contrast_gradient(self, fixed: Tensor, online: Embeddings, target: Tensor | None) -> Tensor:
        """Return dL/df (N, D) of each image's contrast with an augmented view of it, through the head alone.

        Each row is the gradient of its own loss, unless a BatchNorm in the head couples the losses of a group.
        """
        with torch.enable_grad():
            features = fixed.clone().requires_grad_()
            contrast = self.base.contrast(features, online, target).sum()
            (gradient,) = torch.autograd.grad(contrast, features)
        return at_least_fp32(gradient)

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the weighted sum of the base's loss, the reconstruction error and the pair loss (Eq. 8)."""
        output = self.base.loss(online, target, progress)
        reconstruction = online["reconstruction_error"].mean()
        loss = output.loss + self.settings.reconstruction_weight * reconstruction  # Eq. 8
        features = online["feature"].detach()
        metrics = output.metrics | {
            "reconstruction_error": reconstruction.detach(),
            "feature_dimension_std": features.std(dim=0, correction=0).mean(),
        }
        if self.settings.pair_weight:
            pair = self.base.pair_loss(online, progress)  # Eq. 7
            loss = loss + self.settings.pair_weight * pair
            metrics["loss_pair"] = pair.detach()
            metrics |= {name: online[name].detach().mean() for name in online if name.startswith("noise_")}
        return Output(loss, metrics)

    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        """Update the base, and append the features of the batch to the bank."""
        self.base.after_step(online, target, progress)
        self._append_to_bank(online["feature"])

    @torch.no_grad()
    def _append_to_bank(self, features: Tensor) -> None:
        capacity = len(self.bank)
        features = features.detach().to(self.bank.dtype)[-capacity:]
        self.bank.copy_(torch.cat([self.bank[len(features) :], features]))
        self._filled = min(capacity, self._filled + len(features))
        self.bank_filled.fill_(self._filled)

    def _count_filled(self, incompatible_keys: object) -> None:
        self._filled = int(self.bank_filled)

    def parameter_groups(self, learning_rate: Schedule, weight_decay: Schedule) -> list[ParameterGroup]:
        """Return the groups of the base, with the decoder added to the first."""
        first, *others = self.base.parameter_groups(learning_rate, weight_decay)
        return [replace(first, parameters=[*first.parameters, *self.decoder.parameters()]), *others]

    def exports(self) -> dict[str, nn.Module]:
        """Return what the base exports, and the decoder."""
        return self.base.exports() | {"decoder": self.decoder}
