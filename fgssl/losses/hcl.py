"""HCL, the hierarchical contrastive loss: SupCon with soft positive pairs on coarser levels of labels (Chamidullin,
*Contrastive Learning for Fine-grained Visual Recognition*). No full description is public; these formulas follow the
paper's words."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fgssl.losses.shapes import require_labels
from fgssl.losses.without_self import equal_labels, log_softmax_without_self, pair_targets

Weighting = Literal["pair", "mass"]


def hcl(
    embeddings: Tensor,
    labels: Tensor,
    level_weights: Sequence[float],
    temperature: float,
    weighting: Weighting = "pair",
) -> Tensor:
    """Return a cross-entropy with soft targets over all pairs; a scalar in fp32 or finer.

    embeddings (M, D) are l2-normalized here; labels (M, L), finest level first; level_weights (L,) begin above 0 and
    never rise: (1, lambda) for species and genus. p_ij is the softmax over all rows but i.

    `pair`: -mean_i [sum_j w_ij log p_ij / sum_j w_ij], w_ij the weight of the finest level that i and j share (0 if
    none). Anchors without a weight leave the mean.

    `mass`: sum_l (w_l - w_{l+1}) SupCon_l / w_1, the weight beyond the last level being 0. Terms of coefficient 0 are
    left out; anchors without a positive at level l leave the mean of SupCon_l.

    For nested labels lambda = 0 is SupCon on species and lambda = 1 SupCon on genus, in both.

    Raises:
        ValueError: shapes, weights or a weighting that do not fit, a temperature that is not above 0;
            `NoPositivesError`, if no anchor has a positive (`mass`: at one of the levels whose coefficient is not 0).
    """
    log_p = log_softmax_without_self(embeddings, temperature)  # (M, M)
    require_labels(labels, len(log_p), len(level_weights))
    return -(_targets(labels, level_weights, weighting, log_p.dtype) * log_p).sum()


def target_mass(labels: Tensor, level_weights: Sequence[float], weighting: Weighting = "pair") -> Tensor:
    """Return the share of the targets' mass on pairs whose finest shared level is l, mean over anchors: (L,), of sum 1.

    With many pairs of the genus for each of the species, most of the mass may lie on the genus even for a small lambda.

    Raises:
        ValueError: as `hcl`.
    """
    require_labels(labels, len(labels), len(level_weights))
    targets = _targets(labels, level_weights, weighting, torch.float64)
    return torch.stack([(targets * pairs).sum() for pairs in _pairs_by_finest_level(labels)])


def _targets(labels: Tensor, level_weights: Sequence[float], weighting: Weighting, dtype: torch.dtype) -> Tensor:
    """Return the weight of each log p_ij: (M, M), of sum 1."""
    weights = [*level_weights, 0.0]
    falling = all(finer >= coarser for finer, coarser in itertools.pairwise(weights))
    if not (0 < weights[0] < math.inf and falling):
        raise ValueError(f"level_weights {list(level_weights)}: must begin above 0, never rise and end at 0 or above")
    if weighting == "pair":
        pairs = _pairs_by_finest_level(labels)
        terms = [weight * shared.to(dtype) for weight, shared in zip(level_weights, pairs, strict=True)]
        return pair_targets(torch.stack(terms).sum(dim=0), "a label at a level whose weight is above 0")
    if weighting == "mass":
        terms = []
        for level, (finer, coarser) in enumerate(itertools.pairwise(weights)):
            if finer > coarser:
                positives = equal_labels(labels[:, level]).to(dtype)
                targets = pair_targets(positives, f"a label at level {level} (0 is the finest)")
                terms.append((finer - coarser) / weights[0] * targets)
        return torch.stack(terms).sum(dim=0)
    raise ValueError(f"weighting {weighting!r}: must be 'pair' or 'mass'")


def _pairs_by_finest_level(labels: Tensor) -> list[Tensor]:
    """Return the pairs that share a level and no finer one, for each level: L times (M, M) bool."""
    pairs = []
    finer = torch.zeros(len(labels), len(labels), dtype=torch.bool, device=labels.device)
    for level in labels.T:
        same = equal_labels(level)
        pairs.append(same & ~finer)
        finer = finer | same
    return pairs
