"""Arrays and texts as base64 of gzip, for data blocks of an HTML file."""

import base64
import gzip
import json
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fgssl.report.page.content import NOT_SHOWN, Embedding, Map

Reference = dict[str, object]
"""Description of a block, from which the page finds and reads it."""


@dataclass
class Blocks:
    """Blocks of a page in their order; each added one returns what refers to it."""

    contents: list[str] = field(default_factory=list)

    def array(self, values: NDArray[np.generic], kind: str) -> Reference:
        """Add numbers as little-endian "f4", "u4", "u2" or "u1"."""
        return self._add(np.ascontiguousarray(values).astype(f"<{kind}").tobytes(), kind)

    def text(self, value: object) -> Reference:
        """Add what JSON can hold."""
        return self._add(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"), "json")

    def picture(self, content: bytes) -> Reference:
        """Add a file that is compressed already."""
        return self._put(content, "webp")

    def _add(self, content: bytes, kind: str) -> Reference:
        return self._put(gzip.compress(content, 9, mtime=0), kind)

    def _put(self, content: bytes, kind: str) -> Reference:
        self.contents.append(base64.b64encode(content).decode())
        return {"block": len(self.contents) - 1, "kind": kind}


def add_embedding(blocks: Blocks, embedding: Embedding) -> dict[str, object]:
    """Add the arrays of an embedding and return its description for the page."""
    pictures = embedding.thumbnails
    return {
        "count": len(embedding.ids),
        "ids": blocks.text(embedding.ids),
        "levels": [
            {"name": level.name, "classes": blocks.text(level.classes), "labels": blocks.array(level.labels, "u4")}
            for level in embedding.levels
        ],
        "attributes": [
            {"name": name, "values": blocks.array(values, "f4")} for name, values in embedding.attributes.items()
        ],
        "maps": [_map(blocks, one) for one in embedding.maps],
        "jaccard": None if embedding.jaccard is None else blocks.array(embedding.jaccard, "f4"),
        "thumbnails": pictures
        and {
            "size": pictures.size,
            "aspects": blocks.array(pictures.aspects, "f4"),
            "sheets": [blocks.picture(sheet) for sheet in pictures.sheets],
        },
    }


def _map(blocks: Blocks, one: Map) -> dict[str, object]:
    # A float32 compresses badly; a step of the largest distance / 65,535 is less than a reader sees.
    largest = float(one.distances.max(initial=0.0)) or 1.0
    return {
        "title": one.title,
        "trustworthiness": round(one.trustworthiness, 4),
        "points": blocks.array(one.points, "f4"),
        "k": one.neighbors.shape[1],
        # 0 is a neighbor that is not shown.
        "neighbors": blocks.array(one.neighbors - NOT_SHOWN, "u2" if len(one.points) < 65_535 else "u4"),
        "distances": blocks.array(np.rint(one.distances / largest * 65_535), "u2"),
        "farthest": largest,
        "outliers": blocks.array(one.outliers, "u1"),
    }
