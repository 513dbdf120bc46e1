"""Rank-1, rank-5 and mAP of leave-one-out retrieval."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl.errors import DataError
from fgssl.evaluation.cosine import cosine, queries_at_once
from fgssl.evaluation.features import require_images
from fgssl.progress import Track, silent


def retrieval(
    features: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    track: Track = silent,
    groups: Tensor | NDArray[Any] | None = None,
) -> dict[str, float]:
    """Return rank-1, rank-5 and mAP of leave-one-out retrieval, in which each image is a query to all others.

    The gallery is ranked by cosine similarity, and ties stand in the order of the rows. Rank-k is the share of queries
    with an image of their label among the k nearest. mAP is the mean over queries of the average precision over the
    whole ranking. All three are over the queries that have a positive; images without one stay in the gallery.

    With `groups`, each query's gallery lacks the images of its own group, such as other frames of its track.

    Args:
        features: (N, D), any floating-point type, tensor or array; cosines are computed in float64 on its device.
        labels: (N,) integer classes, tensor or array.
        track: Display of progress; none by default.
        groups: (N,) integers, tensor or array; by default each image is a group of its own.

    Returns:
        `rank1`, `rank5` and `mAP` in percent.

    Raises:
        DataError: There are no images, or no two share a label; with groups, no two of different groups do.
        NonFiniteError: Features hold NaN or infinity.
        ValueError: Labels or groups have another shape.
    """
    return shares(*ranked_queries(features, labels, track, groups))


def ranked_queries(
    features: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    track: Track,
    groups: Tensor | NDArray[Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the rank (N,) of each query's first positive, from 1, and its average precision (N,), float64.

    Both are 0 if the query has no positive. The arguments and errors are those of `retrieval`.
    """
    features = torch.as_tensor(features)
    labels = torch.as_tensor(labels, device=features.device)
    require_images("retrieval", "test", features, labels)
    rows = torch.arange(len(features), device=features.device)
    groups = rows if groups is None else torch.as_tensor(groups, device=features.device)
    if groups.shape != labels.shape:
        raise ValueError(f"groups of shape {tuple(groups.shape)}: must be (N,) as the labels, {tuple(labels.shape)}")
    found = []
    with track("retrieval", len(features), "images") as advance:
        for queries in rows.split(queries_at_once(len(features))):
            found.append(_of_queries(features, labels, groups, queries))
            advance(len(queries))
    rank, precision = map(torch.cat, zip(*found, strict=True))
    if not rank.any():
        raise DataError(
            f"retrieval: no two of the {len(features)} test images (in different groups, if there are any) share a "
            "label, so no query has a positive: take a coarser evaluation.label_level, or a test split with several "
            "images per class"
        )
    return rank, precision


def shares(rank: Tensor, precision: Tensor) -> dict[str, float]:
    """Return `rank1`, `rank5` and `mAP` in percent of the queries whose rank (N,) is not 0."""
    queries = int((rank > 0).sum())
    at = {f"rank{k}": 100 * int(((rank > 0) & (rank <= k)).sum()) / queries for k in (1, 5)}
    return {**at, "mAP": 100 * float(precision.sum()) / queries}


def _of_queries(features: Tensor, labels: Tensor, groups: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rank of the first positive and the average precision (Q,) of queries (Q,), or 0 without a positive."""
    similarity = cosine(features[queries], features)  # (Q, N)
    similarity.masked_fill_(groups == groups[queries, None], -torch.inf)  # the own group comes last, with the query
    alike = _of_same_label(labels, queries)  # (Q, P)
    positive = similarity.gather(1, alike) > -torch.inf
    ranks = _ranks(similarity, alike).where(positive, len(features)).sort(dim=1).values  # positives come first
    positives = positive.sum(dim=1)
    place = torch.arange(1, ranks.shape[1] + 1, dtype=torch.float64, device=ranks.device)
    precision = (place / ranks * (place <= positives[:, None])).sum(dim=1) / positives.clamp(min=1)
    return ranks[:, 0].where(positives > 0, 0), precision


def _of_same_label(labels: Tensor, queries: Tensor) -> Tensor:
    """Return the rows (Q, P) with the label of each query, filled up with the query itself if its label has fewer."""
    order = labels.argsort(stable=True)
    ascending, own = labels[order], labels[queries]
    first, end = (torch.searchsorted(ascending, own, right=right)[:, None] for right in (False, True))
    place = first + torch.arange(int((end - first).max()), device=labels.device)
    return order[place.clamp(max=len(order) - 1)].where(place < end, queries[:, None])


def _ranks(similarity: Tensor, columns: Tensor) -> Tensor:
    """Return the ranks (Q, P), from 1, of columns (Q, P) of the similarities (Q, N); ties stand in column order.

    Counting the larger values takes a sort of bare values, which costs a fraction of one that keeps their places. Only
    queries with ties need the places.
    """
    scores, ascending = similarity.gather(1, columns), _ascending(similarity)
    below, up_to = (torch.searchsorted(ascending, scores, right=right) for right in (False, True))
    ranks = similarity.shape[1] + 1 - up_to
    tied = ((up_to - below > 1) & (scores > -torch.inf)).any(dim=1).nonzero()[:, 0]
    if len(tied):
        order = similarity[tied].argsort(dim=1, descending=True, stable=True)
        ranks[tied] = order.argsort(dim=1).gather(1, columns[tied]) + 1
    return ranks


def _ascending(values: Tensor) -> Tensor:
    """Return values (Q, N) with each row sorted."""
    if values.device.type == "cpu":  # numpy sorts with vector instructions, 12 times faster than torch
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values
