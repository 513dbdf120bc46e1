"""An image file -> what is stored of it, decoded once to know that it is whole."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fgssl.data.source import Sample, UnreadableImageError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff"})
_STORED_AS_THEY_ARE = ("JPEG", "MPO", "PNG")  # MPO: the JPEG of cameras that append a second picture
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def file_sample(path: Path, labels: tuple[int, ...], source_id: str, group: str = "") -> Sample:
    """Return the sample of an image file; raise `UnreadableImageError` if it cannot be read."""
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
            upright = ImageOps.exif_transpose(image)  # a PNG does not carry the orientation on
            if upright.mode not in _PNG_MODES:
                raise ValueError(f"PNG cannot hold mode {upright.mode} without loss; convert it to RGB")
            return png(upright)
    except Exception as error:  # Pillow raises almost anything on damaged files
        raise UnreadableImageError(f"{path}: {error}") from error


def png(image: "Image.Image") -> bytes:
    """Encode without loss and fast: level 1 is a few percent larger than the default."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
