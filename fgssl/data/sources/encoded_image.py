"""Image files as sources hand them over; `fgssl.data.packed_image` checks them and decides how they are stored."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fgssl.data.source import Sample, UnreadableImageError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff"})


def file_sample(path: Path, labels: tuple[int, ...], source_id: str, group: str = "") -> Sample:
    """Return the sample of an image file; raise an `UnreadableImageError` if it cannot be read."""
    try:
        return Sample(path.read_bytes(), labels, source_id, group)
    except OSError as error:
        raise UnreadableImageError(f"{path}: {error.strerror}") from error


def png(image: "Image.Image") -> bytes:
    """Return the image as a PNG file, at compression level 1: fast, and only a few percent larger than the default."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
