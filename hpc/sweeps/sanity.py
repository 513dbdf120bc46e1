"""Sanity rows of a table: rows without a method, which show what the arms must surpass."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from fgssl.settings.layers import Layer

SanityRow: TypeAlias = Literal["pixels", "random_weights", "start_encoder", "chance"]
SANITY: Mapping[SanityRow, Mapping[str, Any]] = {
    "pixels": {"method": {"name": "pixels"}},
    "random_weights": {"method": {"name": "start_encoder"}, "start": {"encoder": None}},
    "start_encoder": {"method": {"name": "start_encoder"}},
    "chance": {"method": {"name": "chance"}},
}
"""Settings of each row, which lie over the shared settings of a sweep."""


def sanity_faults(row: str, shared: Layer, arms: Mapping[str, object]) -> Iterator[str]:
    """Yield a message for each reason why a sweep with these shared settings and arms cannot have the row."""
    if arms.get(row) is not None:
        yield f"{row!r} is the name of an arm: leave it out here, or give the arm another name"
    if row == "start_encoder" and not shared.at("start.encoder"):
        yield (
            "'start_encoder' would be the same as random_weights, since the shared settings have no start weights: "
            "give settings.start.encoder, or take random_weights"
        )
