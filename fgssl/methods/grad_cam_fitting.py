"""Wrapper that learns parts of the feature map by fitting their attention to the Grad-CAM of a base method's loss."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings, Output
from fgssl.encoders.batch_norm import frozen_batch_norm_statistics
from fgssl.encoders.feature_maps import as_map, grad_cam, unpooled
from fgssl.losses import at_least_fp32, attention_divergence_per_row
from fgssl.methods.contrasted import Contrasted
from fgssl.methods.method import Method, ParameterGroup
from fgssl.pooling import PartPooling
from fgssl.schedules import Schedule
from fgssl.settings.feature_maps import GradCAMFittingSettings


class GradCAMFitting(Method):
    """Base method with a pooling by parts, whose attention on the first view fits the Grad-CAM of the base's loss."""

    pooling: PartPooling
    """Pooling by parts, which is trained."""

    def __init__(self, settings: GradCAMFittingSettings, base: Method) -> None:
        super().__init__()
        assert isinstance(base, Contrasted)
        self.settings, self.base = settings, base
        self.online_views, self.target_views = base.online_views, base.target_views

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """Encoder whose feature map is attended."""

    @abstractmethod
    def features(self, found: Tensor, parts: Tensor) -> Tensor:
        """Return the features (N, D) that the base contrasts, of unpooled features and the maps of their parts."""

    def prepare(self, originals: Callable[[int], Iterable[Tensor]]) -> None:
        """Prepare the base."""
        self.base.prepare(originals)

    def target(self, *views: Tensor) -> Tensor:
        """Return the target of the base."""
        return self.base.target(*views)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return the embeddings of the base, and `attention_divergence` (N,) of the first view."""
        first, *others = batch.views[: len(self.online_views)]
        found = unpooled(self.encoder, first)
        parts = self._parts(found)  # (N, K, H, W)
        features = self.features(found, parts)  # (N, D)
        online = self.base.embed(features, *(self.base.encoder(view) for view in others))
        with frozen_batch_norm_statistics(self):
            goal = self._grad_cam(found.detach(), online, target)
        attention = self.pooling.attention(parts)
        divergence = attention_divergence_per_row(attention.flatten(1), goal.flatten(1), self.settings.temperature)
        return online | {"attention_divergence": divergence, "grad_cam_range": goal.amax((1, 2)) - goal.amin((1, 2))}

    def _parts(self, found: Tensor) -> Tensor:
        return self.pooling.parts(as_map(found, self.encoder))

    def _grad_cam(self, fixed: Tensor, online: Embeddings, target: Tensor | None) -> Tensor:
        """Return the Grad-CAM (N, H, W) of each image's own contrastive loss, detached."""
        with torch.enable_grad():
            fixed.requires_grad_()
            contrast = self.base.contrast(self.features(fixed, self._parts(fixed)), online, target).sum()
            (gradient,) = torch.autograd.grad(contrast, fixed)
        found, by = (at_least_fp32(as_map(one.detach(), self.encoder)) for one in (fixed, gradient))
        return grad_cam(found, self.settings.gradient_sign * by)

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the base's loss plus the weighted sum of all images' divergences."""
        output, divergence = self.base.loss(online, target, progress), online["attention_divergence"]
        metrics = {"attention_divergence": divergence, "grad_cam_range": online["grad_cam_range"]}
        return Output(
            output.loss + self.settings.attention_weight * divergence.sum(),
            output.metrics | {name: values.detach().mean() for name, values in metrics.items()},
        )

    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        """Update the base."""
        self.base.after_step(online, target, progress)

    def parameter_groups(self, learning_rate: Schedule, weight_decay: Schedule) -> list[ParameterGroup]:
        """Return the groups of the base, with the pooling added to the first unless the base trains it itself."""
        groups = self.base.parameter_groups(learning_rate, weight_decay)
        known = {id(parameter) for group in groups for parameter in group.parameters}
        added = [parameter for parameter in self.trained_parameters() if id(parameter) not in known]
        return [replace(groups[0], parameters=[*groups[0].parameters, *added]), *groups[1:]]
