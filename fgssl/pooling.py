"""Pooling of feature maps by learned parts, to features beside the encoder's own."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from fgssl.encoders.feature_maps import as_map, unpooled
from fgssl.losses import at_least_fp32
from fgssl.noises.grad_cam import normalized_scores


class PartPooling(nn.Module, ABC):
    """Module from feature maps (N, C, H, W) to features, by maps of K parts: a 1x1 convolution, BatchNorm, ReLU."""

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, parts, kernel_size=1, bias=False)
        self.batch_norm = nn.BatchNorm2d(parts)

    @property
    @abstractmethod
    def width(self) -> int:
        """Width D of the features."""

    def parts(self, found: Tensor) -> Tensor:
        """Return the maps of the parts (N, K, H, W) in a feature map."""
        return F.relu(self.batch_norm(self.convolution(found)))

    @abstractmethod
    def attention(self, parts: Tensor) -> Tensor:
        """Return the attention (N, H, W) of the maps of the parts."""

    @abstractmethod
    def pool(self, found: Tensor, parts: Tensor) -> Tensor:
        """Return the features (N, D) of a feature map and the maps of its parts."""

    def forward(self, found: Tensor) -> Tensor:
        """Return the features (N, D) of a feature map (N, C, H, W)."""
        return self.pool(found, self.parts(found))


class AttentionPooling(PartPooling):
    """Mean of the feature map weighted by attention, at unit length (Shu et al. 2023, LCR)."""

    @property
    def width(self) -> int:
        """Number C of channels."""
        return self.convolution.in_channels

    def attention(self, parts: Tensor) -> Tensor:
        """Return the strongest part at each position, scaled per image to [0, 1]."""
        strongest = at_least_fp32(parts.amax(dim=1))
        return normalized_scores(strongest.flatten(1)).view_as(strongest)

    def pool(self, found: Tensor, parts: Tensor) -> Tensor:
        """Return features of width D = C."""
        weighted = at_least_fp32(found) * self.attention(parts)[:, None]
        return F.normalize(weighted.mean(dim=(2, 3)), dim=1)


class BilinearPooling(PartPooling):
    """Mean over positions of each part times each channel (Shu et al. 2022, SAM)."""

    @property
    def width(self) -> int:
        """Number of parts times that of channels, K C."""
        return self.convolution.out_channels * self.convolution.in_channels

    def attention(self, parts: Tensor) -> Tensor:
        """Return the strongest part at each position."""
        return at_least_fp32(parts.amax(dim=1))

    def pool(self, found: Tensor, parts: Tensor) -> Tensor:
        """Return features of width D = K C, the channels of the first part first."""
        positions = found.shape[2] * found.shape[3]
        return (parts.flatten(2) @ found.flatten(2).transpose(1, 2)).flatten(1) / positions


class Pooled(nn.Module):
    """Encoder whose feature map is pooled by parts: a module from images (N, C, H, W) to features (N, D)."""

    def __init__(self, encoder: nn.Module, pooling: PartPooling) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling
        self.head_hidden_size = pooling.width  # timm's name, by which `feature_width` finds it

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, D)."""
        features: Tensor = self.pooling(as_map(unpooled(self.encoder, images), self.encoder))
        return features


POOLINGS: dict[str, type[PartPooling]] = {"attention": AttentionPooling, "bilinear": BilinearPooling}
"""Classes by the names of `evaluation.pooling`; `gap` is the encoder's own pooling."""
