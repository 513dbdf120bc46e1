"""Image files in the form in which shards store them; each is decoded once to prove that it is whole."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fgssl.data.source import Sample, UnreadableImageError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff"})
_STORED_AS_THEY_ARE = ("JPEG", "MPO", "PNG")  # MPO is a JPEG to which a camera appended a second picture
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def file_sample(path: Path, labels: tuple[int, ...], source_id: str, group: str = "") -> Sample:
    """Return the sample of an image file; raise an `UnreadableImageError` if it cannot be read."""
    return Sample(_encoded(path), labels, source_id, group)


def _encoded(path: Path) -> bytes:
    """Return the bytes to store: JPEG and PNG files as they are, other formats losslessly as PNG."""
    from PIL import Image, ImageOps

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if image.format in _STORED_AS_THEY_ARE:
                return content
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError("it holds several images; keep one")
            upright = ImageOps.exif_transpose(image)  # the PNG below would lose the orientation
            if upright.mode not in _PNG_MODES:
                raise ValueError(f"PNG cannot hold mode {upright.mode} without loss; convert it to RGB")
            return png(upright)
    except Exception as error:  # Pillow raises many types for damaged files
        raise UnreadableImageError(f"{path}: {error}") from error


def png(image: "Image.Image") -> bytes:
    """Return the image as a PNG file, at compression level 1: fast, and only a few percent larger than the default."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
