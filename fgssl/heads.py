"""Heads: small networks between features and loss."""

from torch import nn


def projector(feature_width: int, hidden_width: int, projection_width: int, batch_norm: bool = False) -> nn.Sequential:
    """Build a projector (N, D) -> (N, P) of two layers, with or without BatchNorm after each.

    MoCo v2 (arXiv:2003.04297) has no BatchNorm. SimCLR's official code has it, there without a shift in the last one.
    """
    if not batch_norm:
        return nn.Sequential(
            nn.Linear(feature_width, hidden_width),
            nn.ReLU(),
            nn.Linear(hidden_width, projection_width),
        )
    return nn.Sequential(
        nn.Linear(feature_width, hidden_width, bias=False),
        nn.BatchNorm1d(hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, projection_width, bias=False),
        nn.BatchNorm1d(projection_width),
    )


def normalized_projector(feature_width: int, hidden_width: int, projection_width: int) -> nn.Sequential:
    """Build SimSiam's projector (N, D) -> (N, P) of three layers with BatchNorm (Chen and He 2021, arXiv:2011.10566).

    The last BatchNorm is not affine.
    """
    return nn.Sequential(
        nn.Linear(feature_width, hidden_width, bias=False),
        nn.BatchNorm1d(hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, hidden_width, bias=False),
        nn.BatchNorm1d(hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, projection_width, bias=False),
        nn.BatchNorm1d(projection_width, affine=False),
    )


def predictor(projection_width: int, hidden_width: int) -> nn.Sequential:
    """Build SimSiam's predictor (N, P) -> (N, P), a bottleneck without BatchNorm at its end (arXiv:2011.10566)."""
    return nn.Sequential(
        nn.Linear(projection_width, hidden_width, bias=False),
        nn.BatchNorm1d(hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, projection_width),
    )
