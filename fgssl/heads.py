"""Small networks between feature and loss."""

from torch import nn


def projector(feature_width: int, hidden_width: int, projection_width: int, batch_norm: bool = False) -> nn.Sequential:
    """Build two layers, without BatchNorm (MoCo v2, arXiv:2003.04297) or with it after each. (N, D) -> (N, P).

    SimCLR's official code has the latter, there without a shift in the last.
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
    """Build SimSiam's head: three layers with BatchNorm, the last not affine (arXiv:2011.10566). (N, D) -> (N, P)."""
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
    """Build SimSiam's bottleneck, no BatchNorm at its end (arXiv:2011.10566). (N, P) -> (N, P)."""
    return nn.Sequential(
        nn.Linear(projection_width, hidden_width, bias=False),
        nn.BatchNorm1d(hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, projection_width),
    )
