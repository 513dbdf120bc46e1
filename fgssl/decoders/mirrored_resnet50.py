"""Mirrored ResNet-50 (He et al. 2016).

At 224 pixels: 2048 -> 512 -> 2048x4x4 -> 7x7 -> stages [3, 4, 6, 3] -> image.
"""

from torch import Tensor, nn


class UpBottleneck(nn.Module):
    """Bottleneck of 1x1, 3x3 and 1x1 convolutions with a shortcut; `upsample` doubles the side by nearest neighbors."""

    def __init__(self, in_channels: int, middle: int, out_channels: int, upsample: bool) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest") if upsample else nn.Identity()
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, middle, kernel_size=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            self.upsample,
            nn.Conv2d(middle, middle, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, out_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        same = in_channels == out_channels
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False), nn.BatchNorm2d(out_channels)
            )
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W), or to twice that height and width with `upsample`."""
        return self.relu(self.branch(x) + self.upsample(self.shortcut(x)))


def mirrored_resnet50_decoder(feature_width: int, image_size: int) -> nn.Sequential:
    """Build a decoder (N, feature_width) -> (N, 3, image_size, image_size); its stages start at image_size / 32."""
    stages: list[nn.Module] = []
    channels = 2048
    # ResNet-50's own bottleneck widths, from its last stage to its first: 10.7 GMAC at 224 pixels.
    for blocks, middle, out_channels in ((3, 512, 1024), (4, 256, 512), (6, 128, 256), (3, 64, 64)):
        for block in range(blocks):
            stages.append(UpBottleneck(channels, middle, out_channels, upsample=block == 0))
            channels = out_channels
    return nn.Sequential(
        nn.Linear(feature_width, 512),
        nn.ReLU(),
        nn.Linear(512, 2048 * 4 * 4),
        nn.ReLU(),
        nn.Unflatten(1, (2048, 4, 4)),
        nn.Upsample(size=image_size // 32, mode="nearest"),
        *stages,
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(channels, 3, kernel_size=3, padding=1),
    )
