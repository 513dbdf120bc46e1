"""Contract of a source of images: the `Source` that its module declares, and the dataset that it gives to `pack`.

The module imports neither numpy nor h5py, which `fgssl pack --help` and messages do not need.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from fgssl.errors import DataError
from fgssl.store.manifest import Level


class UnreadableImageError(DataError):
    """Image that cannot be packed; `pack` reads on and reports all of them at once."""


@dataclass(frozen=True)
class Sample:
    """One image of a source, with its labels."""

    image: bytes
    """Image file in any format that Pillow reads; `pack` checks it and stores it as JPEG or PNG."""
    labels: tuple[int, ...]
    """One class number per level, finest level first; empty if unlabeled."""
    source_id: str
    """Origin of the image, such as a path relative to the source."""
    group: str = ""
    """Group of the image. A validation split never divides a group. Empty: the image is a group of its own."""
    attributes: Mapping[str, float] = field(default_factory=dict)
    """Recorded attributes by name, such as light and pose."""
    damage: str = ""
    """Decoder's message about a damaged file of which the image was made as far as it could be read. `pack` refuses
    the image then, unless its settings accept damaged ones."""
    mask: bytes | None = None
    """Mask of the object, as `fgssl.data.masks.encoded_mask` returns it; None if there is none. Only code that draws
    images gives one. Those of other sources come from a folder, and `pack` shrinks them with their images."""


@dataclass(frozen=True)
class SourceDataset:
    """Dataset in the form that `pack` takes."""

    name: str
    source: str
    arguments: Mapping[str, JsonValue]
    """Settings of the source, without paths, to which `pack` adds its own; they are part of the version."""
    levels: tuple[Level, ...]
    splits: Mapping[str, Sequence[Callable[[], Sample]]]
    """One function per image. Each is called at most once, roughly in packing order and from several threads at a time,
    so that no split has to fit into memory. An interrupted packing can be resumed if the functions are partials of a
    function of a module, with arguments that are paths, numbers, strings, or dataclasses and tuples of these."""
    seed: int = 0
    """Seed of the permutation of images in the shards."""
    remarks: tuple[str, ...] = ()
    """Remarks for the user, such as files that were left out."""
    drawn: bool = False
    """Whether code draws the images. They are stored as they are then, and the settings of packing do not apply."""
    masked: bool = False
    """Whether each of the drawn samples has a mask."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Source of images, declared as `SOURCE` in its module and registered in `fgssl.data.sources`."""

    name: str
    summary: str
    """Description in one line, for the list of sources."""
    settings: type
    """Settings class whose fields are the options of `fgssl pack`."""
    paths: tuple[str, ...] = ("IMAGES",)
    """Names of the paths that the source reads, as `fgssl pack` takes them before DST."""
    levels: tuple[str, ...]
    """Names of the label levels, finest first; empty if the images decide."""
    how_to_get: str
    """Origin and license of the images, and the commands that unpack them; shown by `fgssl pack NAME --help`."""
    read: Callable[..., SourceDataset]
    """Function `read(*paths, settings)` that lists and labels the images, and raises a `DataError` with all faults. It
    reads no image: the functions in `SourceDataset.splits` do. The module imports numpy or Pillow inside of these
    functions only."""

    def usage(self, destination: str = "DST") -> str:
        """Return the command that packs the source into `destination`."""
        return " ".join(["fgssl pack", self.name, *self.paths, shlex.quote(destination)])
