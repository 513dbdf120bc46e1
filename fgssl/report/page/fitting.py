"""Thumbnails of an embedding, as large as a number of bytes allows; and fewer images if the smallest are too large."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgssl.report.page.blocks import Blocks, add_embedding
from fgssl.report.page.content import Embedding, Thumbnails

SIZES = (96, 64, 48, 32)
"""Sides of a thumbnail in pixels, best first."""
TILES = 16
"""Thumbnails in a row, and rows, of a sprite sheet."""
SHEET = TILES * TILES
_QUALITY = 70
_SAMPLE = 256
"""Images from which the bytes of all are estimated."""

Pixels = Callable[[int], NDArray[np.uint8]]
"""Function that returns the upright RGB image (H, W, 3) of an index, such as `ShardedSplit.pixels`."""


def make_thumbnails(pixels: Pixels, rows: Sequence[int], size: int) -> Thumbnails:
    """Return thumbnails of these images; equal pixels give equal bytes."""
    aspects = np.empty(len(rows), dtype=np.float32)
    sheets = []
    for first in range(0, len(rows), SHEET):
        chosen = rows[first : first + SHEET]
        height = -(-len(chosen) // TILES) * size
        sheet = np.zeros((height, TILES * size, 3), dtype=np.uint8)
        for place, row in enumerate(chosen):
            image = pixels(row)
            aspects[first + place] = round(image.shape[1] / image.shape[0], 2)
            top, left = place // TILES * size, place % TILES * size
            sheet[top : top + size, left : left + size] = _squeezed(image, size)
        written = io.BytesIO()
        Image.fromarray(sheet).save(written, "webp", quality=_QUALITY, method=4)
        sheets.append(written.getvalue())
    return Thumbnails(size, tuple(sheets), aspects)


def fit(embedding: Embedding, pixels: Pixels, most_bytes: int) -> Embedding:
    """Return the embedding with thumbnails that take `most_bytes` at most in the page, with all their data.

    The largest size of `SIZES` that fits is chosen. If none does, images are left out: each class keeps the same share
    and one image at least, and outliers stay as long as there is room.
    """
    everything = np.arange(len(embedding.ids))
    sample = everything[np.linspace(0, len(everything) - 1, min(_SAMPLE, len(everything))).astype(int)]
    for size in SIZES:
        of_sample = make_thumbnails(pixels, sample.tolist(), size)
        per_image = sum(map(len, of_sample.sheets)) * 4 / 3 / len(sample)
        if per_image * len(everything) <= most_bytes:  # else it is not worth the time to make them
            found = replace(embedding, thumbnails=make_thumbnails(pixels, everything.tolist(), size))
            if _bytes(found) <= most_bytes:
                return found
    count = min(len(everything), int(len(everything) * most_bytes / (_bytes(embedding) + per_image * len(everything))))
    while count > 0:
        rows = _kept(embedding, count)
        found = embedding.take(rows)
        found = replace(found, thumbnails=make_thumbnails(pixels, rows.tolist(), SIZES[-1]))
        if _bytes(found) <= most_bytes:
            return replace(found, left_out=_left_out(embedding, rows))
        count = int(count * 0.95)
    raise ValueError(f"no image fits into {most_bytes:,} bytes")


def _squeezed(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    shrinks = min(image.shape[:2]) >= size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), dtype=np.uint8)


def _bytes(embedding: Embedding) -> int:
    blocks = Blocks()
    add_embedding(blocks, embedding)
    return sum(map(len, blocks.contents))


def _outlier(embedding: Embedding) -> NDArray[np.bool_]:
    return np.any([one.outliers.any(axis=1) for one in embedding.maps], axis=0)


def _kept(embedding: Embedding, count: int) -> NDArray[np.int64]:
    """Return the indices of the images that stay, ascending: outliers, then the same share of each class."""
    number = len(embedding.ids)
    share = np.arange(number) / number
    if embedding.levels:
        labels = embedding.levels[0].labels
        for label in np.unique(labels):
            of_class = np.flatnonzero(labels == label)
            share[of_class] = np.arange(len(of_class)) / len(of_class)
    share[_outlier(embedding)] -= 1
    return np.sort(np.argsort(share, kind="stable")[:count])


def _left_out(embedding: Embedding, rows: NDArray[np.int64]) -> str:
    outlier = _outlier(embedding)
    kept, number = int(outlier[rows].sum()), int(outlier.sum())
    outliers = f"all {number:,} outliers, and " if kept == number else f"{kept:,} of {number:,} outliers, and "
    return (
        f"{len(rows):,} of {len(embedding.ids):,} images are shown, to keep the file small: {outliers * (number > 0)}"
        "the same share of each class. Neighbors, trustworthiness and change were computed with all images of the map."
    )
