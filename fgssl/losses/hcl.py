"""HCL, the hierarchical contrastive loss: SupCon with soft positive pairs on coarser levels of labels.

The loss is Chamidullin's (*Contrastive Learning for Fine-grained Visual Recognition*). No full description of it is
public, so the formulas here follow the paper's words.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fgssl.losses.shapes import require_labels
from fgssl.losses.without_self import equal_labels, log_softmax_without_self, pair_targets

Weighting = Literal["pair", "mass", "ignore"]


def hcl(
    embeddings: Tensor,
    labels: Tensor,
    level_weights: Sequence[float],
    temperature: float,
    weighting: Weighting = "pair",
) -> Tensor:
    """Return the cross-entropy of the in-batch softmax against soft targets over all pairs (*HCL*, Chamidullin).

    p_ij is the softmax of cosine / temperature over all rows except i. Three weightings define the targets:

    - `pair`: -mean_i [sum_j w_ij log p_ij / sum_j w_ij], where w_ij is the weight of the finest level that i and j
      share, and 0 if they share none. The mean is over the anchors that have a positive weight.
    - `mass`: sum_l (w_l - w_{l+1}) SupCon_l / w_1, where the weight after the last level is 0. Terms whose coefficient
      is 0 are left out. The mean in SupCon_l is over the anchors that have a positive at level l.
    - `ignore`: SupCon on the finest level, where pairs that share only a coarser level are neither positives nor
      negatives: the softmax leaves them out. A level whose weight is 0 is not among them; otherwise the weights of the
      coarser levels do not matter. This variant is ours.

    For nested labels and weights (1, lambda), lambda = 0 is SupCon on species and lambda = 1 is SupCon on genus, in
    both weightings.

    Args:
        embeddings: (M, D), any floating-point type; l2-normalized here. Each view of an image is a row.
        labels: (M, L) integer classes, finest level first.
        level_weights: L weights that begin above 0, never rise and end at 0 or above: (1, lambda) for species and
            genus.
        temperature: Divisor of the cosines, above 0.
        weighting: `pair`, `mass` or `ignore`.

    Returns:
        Scalar in nats, float32, or float64 if the embeddings are float64.

    Raises:
        ValueError: The shapes do not fit each other, `level_weights` or `weighting` is not allowed, or `temperature` is
            not above 0.
        NoPositivesError: No anchor has a positive; under `mass`, at one of the levels whose coefficient is not 0; under
            `ignore`, at the finest level. On a GPU the loss is NaN instead, so that the host need not wait.
    """
    require_labels(labels, len(embeddings), len(level_weights))
    ignored = _coarser_pairs(labels, level_weights) if weighting == "ignore" else None
    log_p = log_softmax_without_self(embeddings, temperature, ignored)  # (M, M)
    return -(_targets(labels, level_weights, weighting, log_p.dtype) * log_p).sum()


def target_mass(labels: Tensor, level_weights: Sequence[float], weighting: Weighting = "pair") -> Tensor:
    """Return the share of the targets of `hcl` that lies on pairs of each level.

    A batch has far more pairs of one genus than of one species, so most of the mass may lie on the genus even if its
    weight is small.

    Args:
        labels: (M, L) integer classes, finest level first.
        level_weights: As in `hcl`.
        weighting: As in `hcl`.

    Returns:
        (L,) float64 shares that sum to 1: entry l is the mass on pairs whose finest shared level is l, averaged over
        anchors.

    Raises:
        ValueError: `labels`, `level_weights` or `weighting` is not allowed, as in `hcl`.
        NoPositivesError: No anchor has a positive, as in `hcl`.
    """
    require_labels(labels, len(labels), len(level_weights))
    targets = _targets(labels, level_weights, weighting, torch.float64)
    return torch.stack([(targets * pairs).sum() for pairs in _pairs_by_finest_level(labels)])


def _targets(labels: Tensor, level_weights: Sequence[float], weighting: Weighting, dtype: torch.dtype) -> Tensor:
    """Return the weight of each log p_ij, (M, M); the weights sum to 1."""
    weights = [*level_weights, 0.0]
    falling = all(finer >= coarser for finer, coarser in itertools.pairwise(weights))
    if not (0 < weights[0] < math.inf and falling):
        raise ValueError(f"level_weights {list(level_weights)}: must begin above 0, never rise and end at 0 or above")
    if weighting == "pair":
        pairs = _pairs_by_finest_level(labels)
        terms = [weight * shared.to(dtype) for weight, shared in zip(level_weights, pairs, strict=True)]
        return pair_targets(torch.stack(terms).sum(dim=0), "a label at a level whose weight is above 0")
    if weighting == "ignore":
        return pair_targets(equal_labels(labels[:, 0]).to(dtype), "a label at level 0, the finest")
    if weighting == "mass":
        terms = []
        for level, (finer, coarser) in enumerate(itertools.pairwise(weights)):
            if finer > coarser:
                positives = equal_labels(labels[:, level]).to(dtype)
                targets = pair_targets(positives, f"a label at level {level} (0 is the finest)")
                terms.append((finer - coarser) / weights[0] * targets)
        return torch.stack(terms).sum(dim=0)
    raise ValueError(f"weighting {weighting!r}: must be 'pair', 'mass' or 'ignore'")


def _coarser_pairs(labels: Tensor, level_weights: Sequence[float]) -> Tensor:
    """Return a mask (M, M) of the pairs that share a level of positive weight, but not the finest one."""
    pairs = _pairs_by_finest_level(labels)
    coarser = torch.zeros_like(pairs[0])
    for weight, shared in zip(level_weights[1:], pairs[1:], strict=True):
        coarser |= shared & (weight > 0)
    return coarser


def _pairs_by_finest_level(labels: Tensor) -> list[Tensor]:
    """Return for each level a mask (M, M) of the pairs that share this level but no finer one."""
    pairs = []
    finer = torch.zeros(len(labels), len(labels), dtype=torch.bool, device=labels.device)
    for level in labels.T:
        same = equal_labels(level)
        pairs.append(same & ~finer)
        finer = finer | same
    return pairs
