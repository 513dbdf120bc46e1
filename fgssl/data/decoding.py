"""Decoding of image files: JPEG by libjpeg-turbo, all other formats by Pillow."""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from fgssl.data.metadata import may_have_exif
from fgssl.errors import DataError

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


def decode(encoded: bytes, *, strict: bool = False) -> NDArray[np.uint8]:
    """Return an upright RGB image (H, W, 3); gray, palette, CMYK, transparent and 16-bit images are converted.

    The pixels of a JPEG are those of libjpeg's exact (`islow`) inverse transform with smooth upsampling, which Pillow
    computes as well. A JPEG with damaged data is decoded as far as libjpeg can, unless `strict`. Pillow passes over the
    warnings of libjpeg, so only simplejpeg can be strict; some rare subsamplings of colors, which it does not read, are
    not checked.

    Raises:
        OSError, ValueError: The bytes are not a readable image.
        DataError: `strict` is set, and the image is a JPEG, but simplejpeg is not installed.
    """
    if strict and simplejpeg is None and encoded.startswith(_JPEG):
        raise DataError(
            "JPEG files cannot be checked for damage, since simplejpeg is not installed: install it, or pack on a "
            "machine that has it and copy the shards; training reads them without it"
        )
    colors = _colors_for_simplejpeg(encoded)
    if colors in ("CMYK", "YCCK"):
        if strict:  # Pillow, which converts the colors, does not check
            simplejpeg.decode_jpeg(encoded, colorspace="CMYK", strict=True)
    elif colors is not None:
        pixels = simplejpeg.decode_jpeg(encoded, strict=strict)
        return upright(pixels, lambda: Image.open(io.BytesIO(encoded))) if may_have_exif(encoded) else pixels
    return upright_rgb(Image.open(io.BytesIO(encoded)))


def _colors_for_simplejpeg(encoded: bytes) -> str | None:
    """Return the color space of a JPEG that simplejpeg reads, or None for all other images."""
    if simplejpeg is None or not encoded.startswith(_JPEG):
        return None
    try:
        colors: str = simplejpeg.decode_jpeg_header(encoded, strict=False)[2]
        return colors
    except (ValueError, KeyError):  # an odd or a broken header, which Pillow reads or reports
        return None


def upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a Pillow image as `decode` does: upright and in RGB, (H, W, 3)."""
    colored = image
    if image.mode.startswith("I"):  # Pillow would clip 16 bits instead of scaling them
        colored = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    return upright(np.array(colored.convert("RGB")), lambda: image)


def upright_size(encoded: bytes) -> tuple[int, int]:
    """Return the height and width that `decode` would return, from the header of an image file alone."""
    image = Image.open(io.BytesIO(encoded))
    blank = np.broadcast_to(np.uint8(0), (image.height, image.width, 1))
    height, width, _ = upright(blank, lambda: image).shape
    return height, width


def upright(pixels: NDArray[np.uint8], image: Callable[[], Image.Image]) -> NDArray[np.uint8]:
    """Turn pixels by the Exif tag Orientation of `image`, or not at all if the Exif block is damaged."""
    try:
        turn = _TURNS.get(image().getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises many types for a damaged block
        turn = None
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))
