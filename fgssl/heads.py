"""Heads: small networks between features and loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def expander(feature_width: int, hidden_width: int, projection_width: int) -> nn.Sequential:
    """Build the projector (N, D) -> (N, P) of Barlow Twins and VICReg, three layers without BatchNorm at the end.

    VICReg's first two layers have biases, which the BatchNorm after them cancels (arXiv:2103.03230, 2105.04906).
    """
    return nn.Sequential(
        nn.Linear(feature_width, hidden_width, bias=False),
        nn.BatchNorm1d(hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, hidden_width, bias=False),
        nn.BatchNorm1d(hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, projection_width, bias=False),
    )


class Prototypes(nn.Linear):
    """Last layer of DINO's head: cosines (N, K) of rows (N, P) to K learned directions, in fp32 or finer.

    It is the weight normalization of Salimans and Kingma (2016) with all lengths fixed at 1.
    """

    def __init__(self, width: int, number: int) -> None:
        super().__init__(width, number, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return the cosine of each row to each direction."""
        with torch.autocast(input.device.type, enabled=False):
            rows = F.normalize(input.to(self.weight.dtype), dim=1)
            return F.linear(rows, F.normalize(self.weight, dim=1))


def dino_head(
    feature_width: int, hidden_width: int, bottleneck_width: int, prototypes: int, batch_norm: bool = False
) -> nn.Sequential:
    """Build DINO's head (N, D) -> (N, K): three layers, then `Prototypes` (Caron et al. 2021, arXiv:2104.14294).

    BatchNorm follows the first two layers if `batch_norm` is set; the paper has none. They then have no biases, which
    it would cancel.
    """
    layers: list[nn.Module] = []
    for in_width, out_width in ((feature_width, hidden_width), (hidden_width, hidden_width)):
        norm = [nn.BatchNorm1d(out_width)] if batch_norm else []
        layers += [nn.Linear(in_width, out_width, bias=not batch_norm), *norm, nn.GELU()]
    layers.append(nn.Linear(hidden_width, bottleneck_width))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers, Prototypes(bottleneck_width, prototypes))
