"""Outcomes of single test images (outcomes-<hash>.npz), from which tables of images are made without any new run.

They are in the order of the images in the shards, which hold the names, labels and groups. Reading needs numpy, but not
torch.
"""

import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RIGHT = -1
"""Mark of an image that was classified correctly, in place of the class it was mistaken for."""
_RANK = re.compile(r"rank(\d+)(.*)")

Arrays: TypeAlias = "dict[str, NDArray[Any]]"


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of the M test images of one evaluation, by column of its table."""

    mistaken_for: Arrays = field(default_factory=dict)
    """Class (M,) that an image was mistaken for, int32, or `RIGHT`."""
    rank: Arrays = field(default_factory=dict)
    """Place (M,) of the first image of the query's class, uint32, from 1, or 0 if there is none. The key is the part of
    the column's name after the number: empty for `rank1` and `rank5`."""
    precision: Arrays = field(default_factory=dict)
    """Average precision (M,) from 0 to 1, float16, or NaN if an image has no positive."""

    def classified(self, column: str, predicted: "NDArray[Any]", labels: "NDArray[Any]") -> None:
        """Add the classes (M,) that a measure predicted beside the true ones (M,)."""
        import numpy as np

        self.mistaken_for[column] = np.where(predicted == labels, RIGHT, predicted).astype(np.int32)

    def ranked(self, rank: "NDArray[Any]", precision: "NDArray[Any]", suffix: str = "") -> None:
        """Add the outcome (M,) of each query: the columns `rank<k><suffix>` and `mAP<suffix>`."""
        import numpy as np

        self.rank[suffix] = rank.astype(np.uint32)
        self.precision[f"mAP{suffix}"] = np.where(rank > 0, precision, np.nan).astype(np.float16)

    def of(self, column: str) -> "NDArray[np.float64] | None":
        """Return what each image (M,) adds to the column, or None if the column is no mean or count over images.

        The value is from 0 to 1, or NaN if the image does not count. The column is 100 times the mean, or, if it counts
        outliers, the number of images less the sum.
        """
        import numpy as np

        if column in self.mistaken_for:
            return (self.mistaken_for[column] == RIGHT).astype(np.float64)
        if column in self.precision:
            return self.precision[column].astype(np.float64)
        if (found := _RANK.fullmatch(column)) and found[2] in self.rank:
            rank = self.rank[found[2]].astype(np.int64)
            return np.where(rank > 0, (rank <= int(found[1])).astype(np.float64), np.nan)
        return None

    def to_bytes(self) -> bytes:
        """Return the content of the file that `read_outcomes` reads, compressed."""
        import numpy as np

        content = io.BytesIO()
        arrays = {f"{kind}/{name}": array for kind, named in vars(self).items() for name, array in named.items()}
        np.savez_compressed(content, allow_pickle=False, **arrays)
        return content.getvalue()


def read_outcomes(file: Path) -> Outcomes | None:
    """Return the outcomes in `file`, or None if there is no such file, or, with a warning, if it is damaged."""
    import numpy as np

    if not file.is_file():
        return None
    outcomes = Outcomes()
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            for key in arrays.files:
                kind, name = key.split("/", 1)
                getattr(outcomes, kind)[name] = arrays[key]
    except Exception as error:  # numpy, zipfile and zlib each raise types of their own
        print(f"WARNING: {file}: ignored, since its outcomes cannot be read ({error})", file=sys.stderr)
        return None
    return outcomes
