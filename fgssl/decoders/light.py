"""Decoder for images of about 32 pixels."""

import math

from torch import nn


def light_decoder(feature_width: int, image_size: int, width: int) -> nn.Sequential:
    """Build a decoder (N, feature_width) -> (N, 3, image_size, image_size).

    A linear layer makes `width` channels at 4x4. Blocks of nearest x2 upsampling, 3x3 convolution, BatchNorm and ReLU
    follow up to `image_size`, each with half the channels, but at least 16.
    """
    layers: list[nn.Module] = [nn.Linear(feature_width, width * 16), nn.ReLU(), nn.Unflatten(1, (width, 4, 4))]
    for _ in range(int(math.log2(image_size // 4))):
        narrower = max(16, width // 2)
        layers += [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(width, narrower, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(narrower),
            nn.ReLU(),
        ]
        width = narrower
    return nn.Sequential(*layers, nn.Conv2d(width, 3, kernel_size=3, padding=1))
