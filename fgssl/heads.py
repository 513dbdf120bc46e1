"""Small networks between feature and loss."""

from torch import nn


def projector(feature_width: int, hidden_width: int, projection_width: int) -> nn.Sequential:
    """MoCo v2's head: two layers, no BatchNorm (Chen et al. 2020, arXiv:2003.04297). (N, D) -> (N, P)."""
    return nn.Sequential(
        nn.Linear(feature_width, hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, projection_width),
    )
