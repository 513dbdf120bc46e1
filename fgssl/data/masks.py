"""Masks of the objects in images: files in a folder that mirrors the images, and their form in shards.

In a file the object has values of at least 128. A shard stores a mask as a PNG file with one bit per pixel.
"""

import errno
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fgssl.data.sources.encoded_image import png
from fgssl.data.sources.official import image_names
from fgssl.errors import DataError

Mask = NDArray[np.bool_]
"""Pixels (H, W) of an image that are true where the object is."""
_OBJECT = 128
"""Smallest value of the object in a mask file."""
_SOURCE_ROOT = "images"
"""First folder of images in official layouts, such as that of CUB-200, which their masks do not repeat."""


@dataclass(frozen=True)
class MaskFolder:
    """Folder with the mask of image `a/b.jpg` at `a/b.png`, or without a first folder `images` in the image's name."""

    path: Path
    names: frozenset[str]
    """Paths of the PNG files, relative to the folder."""
    state: str
    """SHA-256 over the names, sizes and times of the files."""

    @classmethod
    def listed(cls, path: Path) -> "MaskFolder":
        """Return the masks in a folder; raise a `DataError` if there are none."""
        names = sorted(name for name in image_names(path) if name.endswith(".png"))
        if not names:
            raise DataError(
                f"masks: {path}: {'holds no PNG files' if path.exists() else 'does not exist'}: give a folder with a "
                "mask for each image, in the folders and with the names of the images, but ending in .png"
            )
        stats = [(name, (path / name).stat()) for name in names]
        lines = [f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats]
        state = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
        return cls(path, frozenset(names), state)

    def packed(self, source_id: str, height: int, width: int, stored: tuple[int, int]) -> bytes:
        """Return the mask of an image of `height` x `width` as a shard stores it, for an image stored as (H, W).

        Raises:
            OSError: The file is missing, or the system does not read it.
            ValueError: It is not a mask of this image.
        """
        name = PurePosixPath(source_id).with_suffix(".png")
        if str(name) not in self.names and name.parts[0] == _SOURCE_ROOT:
            name = PurePosixPath(*name.parts[1:])
        if str(name) not in self.names:
            raise FileNotFoundError(errno.ENOENT, f"mask {self.path / name} is missing")
        try:
            return encoded_mask(_shrunk(_read(self.path / name, height, width), stored))
        except ValueError as error:
            raise ValueError(f"mask {self.path / name} {error}") from None


def _read(path: Path, height: int, width: int) -> Mask:
    encoded = path.read_bytes()
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
    except UnidentifiedImageError:
        raise ValueError("is not an image file") from None
    except Exception as error:  # Pillow raises many types for broken files
        raise ValueError(f"cannot be read: {error}") from None
    if image.format != "PNG" or image.mode not in ("1", "L"):
        raise ValueError(
            f"is a {image.format} of mode {image.mode}: it must be a PNG in gray (L) or black and white (1)"
        )
    if image.size != (width, height):
        raise ValueError(
            f"has {image.width} x {image.height} pixels, but the upright image has {width} x {height}: make them equal"
        )
    values = np.asarray(image.convert("L"))
    if 0 < values.max() < _OBJECT:
        raise ValueError(f"has no value above {values.max()}: give the object values of {_OBJECT} to 255")
    return values >= _OBJECT


def _shrunk(mask: Mask, stored: tuple[int, int]) -> Mask:
    """Return a mask shrunk like its image: a pixel is the object's if at least half of its area is."""
    if mask.shape == stored:
        return mask
    values = cv2.resize(mask * np.uint8(255), stored[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(values) >= _OBJECT


def encoded_mask(mask: Mask) -> bytes:
    """Return a mask (H, W) as a shard stores it."""
    return png(Image.fromarray(mask))


def decoded_mask(encoded: bytes) -> Mask:
    """Return a stored mask (H, W); raise a `ValueError` if it is damaged."""
    values = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)  # half the time of Pillow's
    if values is None:
        raise ValueError("the mask is no PNG file")
    return np.asarray(values) > 0
