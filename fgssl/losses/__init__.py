"""Losses as pure functions of tensors, one formula per file.

Every loss l2-normalizes its embeddings itself and computes in float32 even under autocast (in float64 if the embeddings
are float64). It returns a scalar tensor, except `info_nce_per_row`, which returns one number per row.
"""

from fgssl.losses.hcl import hcl, target_mass
from fgssl.losses.himulcone import himulcone
from fgssl.losses.info_nce import info_nce_per_row
from fgssl.losses.n_pairs import n_pairs
from fgssl.losses.negative_cosine import negative_cosine
from fgssl.losses.nt_xent import nt_xent
from fgssl.losses.precision import at_least_fp32
from fgssl.losses.supcon import supcon

__all__ = [
    "at_least_fp32",
    "hcl",
    "himulcone",
    "info_nce_per_row",
    "n_pairs",
    "negative_cosine",
    "nt_xent",
    "supcon",
    "target_mass",
]
