"""features.safetensors: the features of a finished run, for figures and for measures that are added later.

Reading needs numpy and no torch. Rows are in the order of the shards, whose labels and attributes they share.
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
    """Encoder and data that features depend on, beside the code."""

    data_version: str
    """Version of the shards."""
    encoder_sha256: str = ""
    """Hash of encoder.safetensors; empty in files of the first release."""


@dataclass(frozen=True, kw_only=True)
class KeptFeatures:
    """Features of the evaluation crop of the images of a run."""

    splits: Mapping[str, "NDArray[Any]"]
    """`train` (N, D) and `test` (M, D) in float32 or float16, as far as measures asked for them."""
    encoded_by: Mapping[str, str]
    """Version of the code that encoded each split."""
    origin: Origin

    def updated(self, newer: "KeptFeatures") -> "KeptFeatures":
        """Return these features with the splits of `newer` in place of their own."""
        return replace(
            newer, splits={**self.splits, **newer.splits}, encoded_by={**self.encoded_by, **newer.encoded_by}
        )

    def to_bytes(self) -> bytes:
        from safetensors.numpy import save

        content: bytes = save(dict(self.splits), metadata={**self.encoded_by, **asdict(self.origin)})
        return content


def read_features(
    file: Path, origin: Origin | None = None, dtypes: Collection[str] = ("F16", "F32")
) -> KeptFeatures | None:
    """Return the features in `file` of these safetensors types, or None where there are none of them.

    None also, with a warning, for a damaged file, and for one of another `origin`, if that is given.
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
        print(f"WARNING: {file}: passed over, as it holds no features that can be read: {error}", file=sys.stderr)
        return None
