"""Settings of `fgssl pack` that every source shares."""

from dataclasses import asdict, field, fields
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from fgssl.settings.declare import NOT_SCIENTIFIC, NUMBER, PositiveFloat, PositiveInt, settings


@settings
class PackingSettings:
    """Keys of `fgssl pack` for every source: how images are stored."""

    shorter_side: Annotated[int, Field(ge=8), NUMBER] | Literal["original"] = 256
    """Shorter side to which larger images are shrunk, in pixels; photographs of 256 px decode more than twice as fast
    as those of 375 px. JPEG is stored as baseline JPEG, other formats as PNG without loss. Exif and other metadata,
    such as the place where a photograph was taken, are removed. `original` keeps JPEG files and opaque PNG files as
    they are, with their metadata; only damaged JPEG files are encoded anew."""
    ground: Literal["white", "black"] = "white"
    """Color behind transparent pixels, which the stored images no longer have."""
    accept_damaged: bool = False
    """Whether a JPEG with damaged data is packed as far as it can be read. Otherwise it counts as unreadable."""
    unreadable: Literal["refuse", "drop"] = field(default="refuse", metadata=NOT_SCIENTIFIC)
    """Whether nothing is packed if images cannot be, or these are left out, counted and named. An image is unreadable
    if it is damaged, too large or of an unknown format. A file that is missing, or that the system does not read, is
    never left out."""
    max_megapixels: PositiveFloat = field(default=178.0, metadata=NOT_SCIENTIFIC)
    """Size above which an image is refused, in millions of pixels. A small file can unpack to many gigabytes; Pillow
    has the same limit."""
    masks: str | None = field(default=None, metadata=NOT_SCIENTIFIC)
    """Folder of masks of the objects, for `views.background`. The mask of IMAGES/a/b.jpg is FOLDER/a/b.png, or
    FOLDER/b.png if a is `images`: a PNG in gray or black and white, as large as the image, with values of at least 128
    where the object is. Every image needs one."""
    workers: PositiveInt | None = field(default=None, metadata=NOT_SCIENTIFIC)
    """Threads that read, shrink and encode images; if not given, as many as the processors that the command may use.
    The shards are the same for any number."""

    @property
    def arguments(self) -> dict[str, JsonValue]:
        """Settings that can change the stored images; they are part of the dataset's version."""
        scientific = [each.name for each in fields(self) if each.metadata.get("scientific", True)]
        return {name: value for name, value in asdict(self).items() if name in scientific}
