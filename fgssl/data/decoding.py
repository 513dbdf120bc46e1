"""Decoding of image files: JPEG by libjpeg-turbo, all other formats by Pillow."""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

try:
    import simplejpeg
except ImportError:  # no wheel for this processor: Pillow gives the same pixels, at half the speed
    simplejpeg = None

_TURNS: Final[dict[object, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}
"""Function from pixels (H, W, C) to the upright image, by the Exif tag Orientation; 1 is upright."""
_JPEG = b"\xff\xd8\xff"
_MARKS_OF_ORIENTATION = (b"Exif\0", b"Orientation")
_HEAD = 2 * 2**16
"""Bytes of a file within which its orientation stands: it precedes the pixels, and a segment has 64 KiB at most."""


def decode(encoded: bytes, *, strict: bool = False) -> NDArray[np.uint8]:
    """Return an upright RGB image (H, W, 3); gray, palette, CMYK, transparent and 16-bit images are converted.

    The pixels of a JPEG are those of libjpeg's exact (`islow`) inverse transform with smooth upsampling, which Pillow
    computes as well. A JPEG with damaged data is decoded as far as libjpeg can, unless `strict`.

    Raises:
        OSError, ValueError: The bytes are not a readable image.
    """
    if _fits_simplejpeg(encoded):
        pixels = simplejpeg.decode_jpeg(encoded, strict=strict)
        if any(encoded.find(mark, 0, _HEAD) >= 0 for mark in _MARKS_OF_ORIENTATION):
            return _turned(pixels, lambda: Image.open(io.BytesIO(encoded)))
        return pixels
    return upright_rgb(Image.open(io.BytesIO(encoded)))


def _fits_simplejpeg(encoded: bytes) -> bool:
    """Return whether the bytes are a JPEG that is not CMYK and has one of the usual subsamplings."""
    if simplejpeg is None or not encoded.startswith(_JPEG):
        return False
    try:
        _, _, colors, _ = simplejpeg.decode_jpeg_header(encoded, strict=False)
    except (ValueError, KeyError):  # an odd or a broken header, which Pillow reads or reports
        return False
    return colors not in ("CMYK", "YCCK")


def upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a Pillow image as `decode` does: upright and in RGB, (H, W, 3)."""
    colored = image
    if image.mode.startswith("I"):  # Pillow would clip 16 bits instead of scaling them
        colored = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    return _turned(np.array(colored.convert("RGB")), lambda: image)


def _turned(pixels: NDArray[np.uint8], image: Callable[[], Image.Image]) -> NDArray[np.uint8]:
    """Turn pixels by the Exif tag Orientation of `image`, or not at all if the Exif block is damaged."""
    try:
        turn = _TURNS.get(image().getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises many types for a damaged block
        turn = None
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))
