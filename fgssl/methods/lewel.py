"""LEWEL: align embeddings of regions, which the projection head itself finds (Huang et al. 2022, arXiv:2203.14898)."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings, Output
from fgssl.encoders.batch_norm import GroupedBatchNorm1d, frozen_batch_norm_statistics
from fgssl.encoders.feature_maps import as_map, pooled, unpooled
from fgssl.errors import Problem, SettingsError
from fgssl.losses import at_least_fp32
from fgssl.methods.build import Parts
from fgssl.methods.contrasted import Followed
from fgssl.methods.method import Method
from fgssl.settings.feature_maps import LEWELSettings


class LEWEL(Method):
    """Base method on images, and a second one without encoder on the features of M regions of each image."""

    def __init__(self, settings: LEWELSettings, parts: Parts) -> None:
        super().__init__()
        channels = parts.map_channels
        if channels != parts.feature_width:
            message = (
                f"its {parts.feature_width} features must be as many as the map's {channels} channels: take a ResNet"
            )
            raise SettingsError([Problem("config", "encoder.name", message)])
        if channels % settings.groups:
            message = f"{settings.groups} must divide the {channels} channels of the feature map: take another number"
            raise SettingsError([Problem("config", "method.groups", message)])
        base, aligned = (one.method(settings.base) for one in (parts, replace(parts, encoder=_Given(channels))))
        assert isinstance(base, Followed)
        assert isinstance(aligned, Followed)
        self.settings, self.base, self.aligned = settings, base, aligned
        self.online_views, self.target_views = base.online_views, base.target_views
        self.regions: int = settings.base.projection_width // settings.groups  # type: ignore[attr-defined]
        for layer in aligned.modules():
            if isinstance(layer, GroupedBatchNorm1d):
                layer.group_size *= self.regions  # rows of as many images as in the base

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """Encoder of the base method."""
        return self.base.encoder

    def prepare(self, originals: Callable[[int], Iterable[Tensor]]) -> None:
        """Prepare the base."""
        self.base.prepare(originals)

    def _features(self, view: Tensor, encoder: nn.Module, head: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the features (N, D) of images and those (N M, D) of their regions."""
        found = unpooled(encoder, view)
        positions = as_map(found, encoder).flatten(2).transpose(1, 2)  # (N, H W, D)
        with frozen_batch_norm_statistics(head):
            projections = F.normalize(at_least_fp32(_at_positions(head, positions)), dim=2)  # (N, H W, P)
        maps = (projections / self.settings.temperature).softmax(dim=1)
        in_groups = (one.unflatten(2, (self.settings.groups, -1)) for one in (maps, at_least_fp32(positions)))
        regions = torch.einsum("npgm,npgc->nmgc", *in_groups)  # each group of channels by its own M maps
        return pooled(encoder, found), regions.flatten(2).flatten(0, 1)

    @torch.no_grad()
    def target(self, *views: Tensor) -> Tensor:
        """Return the targets of the images, then those of their regions, side by side: (N, (1 + M) P)."""
        images, regions = zip(*(self._features(view, *self.base.slow_networks) for view in views), strict=True)
        of_images, of_regions = self.base.embed_target(*images), self.aligned.embed_target(*regions)
        return torch.cat([of_images, of_regions.view(len(of_images), -1)], dim=1)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return the embeddings of the base (N, P), and those of the regions as `aligned_...` (N, M, P)."""
        views = batch.views[: len(self.online_views)]
        images, regions = zip(*(self._features(view, self.encoder, self.base.head) for view in views), strict=True)
        aligned = self.aligned.embed(*regions)
        return self.base.embed(*images) | {
            f"aligned_{name}": rows.unflatten(0, (-1, self.regions)) for name, rows in aligned.items()
        }

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the weighted mean of the base's loss on images and its loss on regions."""
        of_images, of_regions = self._targets(target)
        given = {name: rows.flatten(0, 1) for name, rows in online.items() if name.startswith("aligned_")}
        aligned = {name.removeprefix("aligned_"): rows for name, rows in given.items()}
        output = self.base.loss(online, of_images, progress)
        other = self.aligned.loss(aligned, of_regions.flatten(0, 1), progress).loss
        loss = output.loss.lerp(other, self.settings.aligned_weight)
        return Output(loss, output.metrics | {"loss_aligned": other.detach()})

    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        """Update the slow networks, and the queues if the base has one, by the mean over an image's regions."""
        of_images, of_regions = self._targets(target)
        self.base.after_step(online, of_images, progress)
        self.aligned.after_step(online, of_regions.mean(dim=1), progress)

    def _targets(self, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the targets of images (N, P) and of regions (N, M, P)."""
        assert target is not None
        targets = target.unflatten(1, (1 + self.regions, -1))
        return targets[:, 0], targets[:, 1:]


class _Given(nn.Identity):
    """Encoder that returns its input, features of a given width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head_hidden_size = width  # timm's name, by which `feature_width` finds it


def _at_positions(head: nn.Module, positions: Tensor) -> Tensor:
    """Return the projections (N, H W, P) of features at positions (N, H W, D)."""
    for layer in head.children():
        if isinstance(layer, GroupedBatchNorm1d):
            positions = layer(positions.transpose(1, 2)).transpose(1, 2)
        else:
            positions = layer(positions)
    return positions
