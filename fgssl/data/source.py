"""A source of images: what its module declares, and what it hands to `fgssl.data.shards.pack`.

Light to import, so that `fgssl pack --help` and messages need neither numpy nor h5py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fgssl.errors import DataError
from fgssl.store.manifest import Level


class UnreadableImageError(DataError):
    """One image that cannot be packed. `pack` reads on and reports all of them at once."""


@dataclass(frozen=True)
class Sample:
    """One image, as a source hands it over."""

    image: bytes
    """Encoded, PNG or JPEG."""
    labels: tuple[int, ...]
    """One class number per level, finest level first; () if unlabeled."""
    source_id: str
    """Where it came from, relative to the source."""
    group: str = ""
    """Group of the image: images of one group stay together in a validation split; empty: a group of its own."""
    attributes: Mapping[str, float] = field(default_factory=dict)
    """Everything else that is known of the image, by name."""


@dataclass(frozen=True)
class SourceDataset:
    """Everything `pack` needs of a source."""

    name: str
    source: str
    arguments: Mapping[str, str | int | float]
    """Settings of the source, without paths; part of the version."""
    levels: tuple[Level, ...]
    splits: Mapping[str, Sequence[Callable[[], Sample]]]
    """One function per image, called once, in packing order: no split has to fit into memory."""
    seed: int = 0
    """Seed of the permutation of images in the shards."""
    remarks: tuple[str, ...] = ()
    """Remarks for the user, such as files that were left out."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of images, declared as `SOURCE` in its module and registered in `fgssl.data.sources`."""

    name: str
    summary: str
    """One line, for the list of sources."""
    settings: type
    """Options of `fgssl pack`."""
    paths: tuple[str, ...] = ("IMAGES",)
    """Names of the paths that it reads, as `fgssl pack` takes them before DST."""
    levels: tuple[str, ...]
    """Names of the label levels, finest first; empty if the images decide."""
    how_to_get: str
    """Where the images come from, under which license, and the commands that unpack them."""
    read: Callable[..., SourceDataset]
    """`read(*paths, settings)` lists and labels the images; raises a `DataError` with all faults. The images themselves
    are read by the functions in `SourceDataset.splits`. A module imports numpy or Pillow inside of these only."""

    def usage(self, destination: str = "DST") -> str:
        """Return the command that packs it."""
        return " ".join(["fgssl pack", self.name, *self.paths, destination])
