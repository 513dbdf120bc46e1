"""Image files in the form in which shards store them; the decoder that training uses reads each of them first."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from fgssl.data.decoding import decode, upright
from fgssl.data.metadata import without_metadata
from fgssl.data.sources.encoded_image import png
from fgssl.settings.packing import PackingSettings

JPEG_QUALITY = 92
"""Quality of JPEG files that are encoded anew, with chroma halved (4:2:0). Photographs shrunk to 256 px keep 45.4 dB;
at 95 they would keep 46.7 dB in files that are 29 % larger, and at 4:4:4 46.1 dB in files that are 23 % larger."""
PILLOW_LIMIT: Final = 178_956_970
"""Number of pixels that Pillow, and thus training, refuses as a decompression bomb."""
_JPEG = b"\xff\xd8\xff"
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16B", "I")
_GRAY_MODES = ("1", "L", "I;16", "I;16B", "I")


class Finding(StrEnum):
    """Property of an image about which packing makes a remark; the value is the text of the remark."""

    SHRUNK = "shrunk to the shorter side that shorter_side gives"
    TURNED = "turned upright, as their Exif block gives"
    CMYK = "in CMYK, read as RGB"
    PALETTE = "with a palette, read as RGB"
    DEEP = "with 16 bits, scaled to 8"
    TRANSPARENT = "composed on the ground that the key ground gives, since they have transparent pixels"
    DAMAGED = "damaged, packed as far as they can be read"
    EXIF = "with a damaged Exif block, read as not turned"
    NO_OBJECT = "with a mask that marks no object, so that their background is never replaced"
    DEPTH = "with 16 bits that use less than half of their range and look dark: scale the values to 0-65535 first"


@dataclass(frozen=True)
class PackedImage:
    """Image file as a shard stores it."""

    encoded: bytes
    findings: Mapping[Finding, str]
    """Findings of this image, each with a detail such as a decoder's message, which may be empty."""


def packed_image(encoded: bytes, settings: PackingSettings, damage: str = "") -> PackedImage:
    """Return the image file to store for an image file of a source.

    Its pixels are those of `fgssl.data.decoding.decode`, shrunk if the shorter side is larger than the settings allow.
    `damage` is the decoder's message about a damaged file of which the source made the image.

    Raises:
        DataError: No image of this format can be packed on this machine.
        Exception: The image cannot be packed, for the reason in the message; Pillow raises many types.
    """
    try:
        image = Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError:
        raise ValueError("cannot identify image file: its format is unknown, or its start is damaged") from None
    megapixels = image.width * image.height / 1e6
    if megapixels > settings.max_megapixels:
        raise ValueError(
            f"has {megapixels:.4g} megapixels, but max_megapixels is {settings.max_megapixels:g}: shrink it, or raise "
            "max_megapixels if there is enough memory"
        )
    findings: dict[Finding, str] = {}
    if damage:
        _accept_damage(damage, settings, findings)
    pack = _packed_jpeg if encoded.startswith(_JPEG) else _packed_losslessly
    stored = pack(encoded, image, settings, findings)
    width, height = Image.open(io.BytesIO(stored)).size
    if width * height > PILLOW_LIMIT:
        megapixels = width * height / 1e6
        raise ValueError(f"has {megapixels:.0f} megapixels, more than training reads: give a smaller shorter_side")
    return PackedImage(stored, findings)


def _packed_jpeg(encoded: bytes, image: Image.Image, settings: PackingSettings, findings: dict[Finding, str]) -> bytes:
    try:
        pixels = decode(encoded, strict=True)
    except ValueError as error:
        # Even bytes to spare at the end, which some whole files have, are mostly the mark of a broken code before.
        pixels = decode(encoded)  # raises if nothing can be read
        _accept_damage(str(error), settings, findings)
    _orientation(image, findings)
    if image.mode == "CMYK":
        findings[Finding.CMYK] = ""
    if settings.shorter_side == "original" and Finding.DAMAGED not in findings:
        return encoded
    plain = not findings and "progressive" not in image.info
    small = _shrunk(pixels, settings, findings)
    kept = without_metadata(encoded) if small is pixels and plain else None
    return _jpeg(small, gray=image.mode == "L") if kept is None else kept


def _accept_damage(damage: str, settings: PackingSettings, findings: dict[Finding, str]) -> None:
    """Note the damage of an image; raise a `ValueError` unless the settings accept damaged images."""
    if not settings.accept_damaged:
        raise ValueError(f"{damage}: replace it, or give accept_damaged=true to pack what can be read")
    findings[Finding.DAMAGED] = damage


def _packed_losslessly(
    encoded: bytes, image: Image.Image, settings: PackingSettings, findings: dict[Finding, str]
) -> bytes:
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError("it holds several images; keep one")
    if image.mode not in _MODES:
        raise ValueError(f"PNG cannot hold mode {image.mode} without loss; convert it to RGB")
    pixels = decode(encoded, strict=True)
    deep_colors = not image.mode.startswith("I") and any(";16" in str(part[3]) for part in getattr(image, "tile", ()))
    image.load()
    orientation = _orientation(image, findings)
    if image.mode.startswith("I"):
        _check_depth(image, findings)
    if deep_colors:  # Pillow has read the upper bytes
        _note_depth(256 * int(pixels.max()) + 255, findings)
    if image.mode.startswith("P"):
        findings[Finding.PALETTE] = ""
    if transparent := image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        findings[Finding.TRANSPARENT] = ""
        ground = Image.new("RGBA", image.size, settings.ground)
        composed = Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
        pixels = upright(np.asarray(composed), lambda: image)
    small = _shrunk(pixels, settings, findings)
    is_stored_form = image.format == "PNG" and small is pixels and not transparent
    if is_stored_form and settings.shorter_side == "original":
        return encoded
    kept = without_metadata(encoded) if is_stored_form and orientation == 1 else None
    if kept is not None:
        return kept
    gray = image.mode in _GRAY_MODES
    return png(Image.fromarray(np.ascontiguousarray(small[..., 0]) if gray else small))


def _orientation(image: Image.Image, findings: dict[Finding, str]) -> int:
    """Return the Exif tag Orientation, 1 if there is none; note what it does, or that it cannot be read."""
    try:
        tags = image.getexif()
        orientation = tags.get(ExifTags.Base.Orientation, 1)
        if orientation in range(9) and (tags or not image.info.get("exif")):
            if orientation > 1:
                findings[Finding.TURNED] = ""
            return orientation or 1  # 0 stands for unknown
    except Exception:  # Pillow raises many types for a damaged block
        pass
    findings[Finding.EXIF] = ""
    return 1


def _check_depth(image: Image.Image, findings: dict[Finding, str]) -> None:
    """Raise a `ValueError` if values do not fit 16 bits; note an image that uses less than half of the range."""
    values = np.asarray(image)
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest >= 2**16:
        raise ValueError(f"has values from {lowest} to {highest}: scale them to 0-65535")
    _note_depth(highest, findings)


def _note_depth(highest: int, findings: dict[Finding, str]) -> None:
    findings[Finding.DEEP] = ""
    if highest < 2**15:
        findings[Finding.DEPTH] = f"values up to {highest}"


def _shrunk(pixels: NDArray[np.uint8], settings: PackingSettings, findings: dict[Finding, str]) -> NDArray[np.uint8]:
    """Return the pixels shrunk with antialiasing, or `pixels` itself if they are small enough.

    OpenCV's mean over areas takes half the time of Pillow's filters, and lets other threads work meanwhile.
    """
    height, width = pixels.shape[:2]
    if settings.shorter_side == "original" or min(height, width) <= settings.shorter_side:
        return pixels
    findings[Finding.SHRUNK] = ""
    scale = settings.shorter_side / min(height, width)
    size = round(width * scale), round(height * scale)
    shrunk: NDArray[np.uint8] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _jpeg(pixels: NDArray[np.uint8], gray: bool) -> bytes:
    subsampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    code = cv2.COLOR_RGB2GRAY if gray else cv2.COLOR_RGB2BGR
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *([] if gray else subsampling)]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, code), options)
    return bytes(encoded)
