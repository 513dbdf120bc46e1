"""Features of a finished run (features.safetensors), kept for figures and for measures that are added later.

Reading needs numpy, but not torch. Features are in the order of the images in the shards, which hold their labels and
attributes.
"""

import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Encoder and data on which features depend, besides the code."""

    data_version: str
    """Version of the shards."""
    encoder_sha256: str = ""
    """SHA-256 of encoder.safetensors, or empty in files of the first release."""


@dataclass(frozen=True, kw_only=True)
class KeptFeatures:
    """Features of a run's images, computed from their evaluation crops."""

    splits: Mapping[str, "NDArray[Any]"]
    """`train` (N, D) and `test` (M, D) in float32 or float16; a split that no measure needed is missing."""
    encoded_by: Mapping[str, str]
    """Version of the code that encoded each split."""
    origin: Origin

    def updated(self, newer: "KeptFeatures") -> "KeptFeatures":
        """Return these features with the splits of `newer` in place of or beside their own."""
        return replace(
            newer, splits={**self.splits, **newer.splits}, encoded_by={**self.encoded_by, **newer.encoded_by}
        )

    def to_bytes(self) -> bytes:
        """Return the content of the file that `read_features` reads."""
        from safetensors.numpy import save

        content: bytes = save(dict(self.splits), metadata={**self.encoded_by, **asdict(self.origin)})
        return content


def read_features(
    file: Path, origin: Origin | None = None, dtypes: Collection[str] = ("F16", "F32")
) -> KeptFeatures | None:
    """Return the features in `file` whose safetensors type is among `dtypes`, or None if there are none.

    The result is also None if `origin` is given and the file has another one, or, with a warning, if the file is
    damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            found = Origin(**{name: metadata[name] for name in asdict(Origin(data_version="")) if name in metadata})
            names = [name for name in opened.keys() if opened.get_slice(name).get_dtype() in dtypes]  # noqa: SIM118
            if not names or origin not in (None, found):
                return None
            splits = {name: opened.get_tensor(name) for name in names}
            return KeptFeatures(splits=splits, encoded_by={name: metadata[name] for name in names}, origin=found)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        print(f"WARNING: {file}: ignored, since its features cannot be read ({error})", file=sys.stderr)
        return None
