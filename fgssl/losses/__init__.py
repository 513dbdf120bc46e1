"""Losses as pure functions of tensors, one formula per file.

Every loss computes in float32 even under autocast, or in float64 if the embeddings are float64. Losses of cosines
l2-normalize their embeddings themselves. A loss returns a scalar tensor, except those named `per_row`, which return one
number per row, and `vicreg_terms`, which returns three terms to weight.
"""

from fgssl.losses.attention_divergence import attention_divergence_per_row
from fgssl.losses.barlow_twins import barlow_twins
from fgssl.losses.dino import centered_softmax, dino
from fgssl.losses.hcl import hcl, target_mass
from fgssl.losses.himulcone import himulcone
from fgssl.losses.info_nce import info_nce_per_row
from fgssl.losses.n_pairs import n_pairs
from fgssl.losses.negative_cosine import negative_cosine
from fgssl.losses.nt_xent import nt_xent
from fgssl.losses.precision import at_least_fp32
from fgssl.losses.supcon import supcon
from fgssl.losses.vicreg import vicreg_terms

__all__ = [
    "at_least_fp32",
    "attention_divergence_per_row",
    "barlow_twins",
    "centered_softmax",
    "dino",
    "hcl",
    "himulcone",
    "info_nce_per_row",
    "n_pairs",
    "negative_cosine",
    "nt_xent",
    "supcon",
    "target_mass",
    "vicreg_terms",
]
