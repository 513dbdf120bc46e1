"""features.safetensors: the features of a finished run, for figures and for measures that are added later.

Reading needs numpy and no torch. Rows are in the order of the shards, whose labels and attributes they share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class KeptFeatures:
    """Features of the evaluation crop of the images of a run."""

    splits: Mapping[str, "NDArray[Any]"]
    """`train` (N, D) and `test` (M, D) in float32 or float16, as far as measures asked for them."""
    encoded_by: Mapping[str, str]
    """Version of the code that encoded each split."""
    data_version: str
    """Version of the shards."""

    def updated(self, newer: "KeptFeatures") -> "KeptFeatures":
        """Return these features with the splits of `newer` in place of their own."""
        return replace(
            newer, splits={**self.splits, **newer.splits}, encoded_by={**self.encoded_by, **newer.encoded_by}
        )

    def to_bytes(self) -> bytes:
        from safetensors.numpy import save

        content: bytes = save(dict(self.splits), metadata={**self.encoded_by, "data_version": self.data_version})
        return content


def read_features(file: Path) -> KeptFeatures | None:
    """Return the features in `file`, or None where there is none."""
    from safetensors import safe_open

    if not file.is_file():
        return None
    with safe_open(file, framework="numpy") as opened:
        splits = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        encoded_by = opened.metadata()
        return KeptFeatures(splits=splits, data_version=encoded_by.pop("data_version"), encoded_by=encoded_by)
