"""Cosine similarities of features in bounded memory."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

PAIRS_AT_ONCE = 2**25
"""Largest number of cosines of a chunk of queries, 256 MiB; no result depends on it beyond rounding."""
GALLERY_AT_ONCE = 512
"""Rows of the gallery that are converted to double precision at a time; no result depends on it beyond rounding."""


def queries_at_once(images: int) -> int:
    """Return the number of queries whose cosines to `images` images are held in memory, at most 1024."""
    return max(1, min(1024, PAIRS_AT_ONCE // images))


def cosine(queries: Tensor, gallery: Tensor) -> Tensor:
    """Return the cosines (Q, N) of queries (Q, D) and gallery (N, D) in float64; a zero vector has cosine 0 to all.

    Double precision, because features of an untrained encoder nearly coincide: float32 would lose their order. The
    gallery is converted in parts, because a copy of all of it would take twice the memory of the float32 features.
    Small parts are also faster.
    """
    directions = normalize(queries.double(), dim=1)
    similarity = directions.new_empty(len(queries), len(gallery))
    for start in range(0, len(gallery), GALLERY_AT_ONCE):
        part = normalize(gallery[start : start + GALLERY_AT_ONCE].double(), dim=1)
        torch.mm(directions, part.T, out=similarity[:, start : start + GALLERY_AT_ONCE])
    return similarity
