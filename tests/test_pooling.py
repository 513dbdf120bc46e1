"""Poolings of feature maps against slow loops."""

import pytest
import torch
from torch import nn

from fgssl.pooling import AttentionPooling, BilinearPooling, Pooled

FOUND = torch.linspace(-2, 3, 2 * 3 * 2 * 4).sin().reshape(2, 3, 2, 4)


def part_maps(pooling: AttentionPooling | BilinearPooling) -> torch.Tensor:
    """Return the maps (2, K, 2, 4) in evaluation mode, position by position."""
    weights, norm = pooling.convolution.weight[:, :, 0, 0], pooling.batch_norm
    maps = torch.zeros(2, len(weights), 2, 4)
    for image in range(2):
        for i in range(2):
            for j in range(4):
                value = weights @ FOUND[image, :, i, j] / (1 + norm.eps) ** 0.5  # of a BatchNorm that has seen nothing
                maps[image, :, i, j] = value.clamp_min(0)
    return maps


def test_attention_weights_positions_by_their_strongest_part() -> None:
    pooling = AttentionPooling(channels=3, parts=5).eval()
    found, maps = pooling(FOUND), part_maps(pooling)
    assert pooling.width == 3
    for image in range(2):
        strongest = maps[image].max(dim=0).values
        attention = (strongest - strongest.min()) / (strongest.max() - strongest.min())
        expected = sum(attention[i, j] * FOUND[image, :, i, j] for i in range(2) for j in range(4))
        torch.testing.assert_close(found[image], expected / expected.norm())  # type: ignore[union-attr]


def test_flat_attention_pools_as_the_mean_does() -> None:
    pooling = AttentionPooling(channels=3, parts=5).eval()
    nn.init.zeros_(pooling.convolution.weight)
    mean = FOUND.mean(dim=(2, 3))
    torch.testing.assert_close(pooling(FOUND), mean / mean.norm(dim=1, keepdim=True))


def test_bilinear_features_are_parts_times_channels() -> None:
    pooling = BilinearPooling(channels=3, parts=5).eval()
    found, maps = pooling(FOUND).detach(), part_maps(pooling).detach()
    assert found.shape == (2, pooling.width) == (2, 15)
    for image in range(2):
        for part in range(5):
            for channel in range(3):
                expected = (maps[image, part] * FOUND[image, channel]).mean()
                assert float(found[image, 3 * part + channel]) == pytest.approx(float(expected), abs=1e-6)


def test_an_encoder_is_pooled_by_its_feature_map() -> None:
    class Encoder(nn.Module):
        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return 2 * images

    pooling = BilinearPooling(channels=3, parts=5).eval()
    whole = Pooled(Encoder(), pooling)
    assert torch.equal(whole(FOUND), pooling(2 * FOUND))
    assert whole.head_hidden_size == 15
