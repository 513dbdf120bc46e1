"""Removal of metadata: the pixels stay, and nothing else that tells where or when a photograph was taken."""

import io
import zlib
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fgssl.data.decoding import decode
from fgssl.data.metadata import may_have_exif, without_metadata

SECRET = b"GPS 50.08 N"


def photo(mode: str = "RGB") -> Image.Image:
    rough = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(rough).convert(mode)


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    photo(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010E] = SECRET.decode()  # ImageDescription
    return tags


@pytest.mark.parametrize(
    ("mode", "progressive", "subsampling", "restart"),
    list(product(("RGB", "L", "CMYK"), (False, True), ("4:4:4", "4:2:0"), (0, 1))),
)
def test_pixels_stay_and_metadata_go(mode: str, progressive: bool, subsampling: str, restart: int) -> None:
    options = {"progressive": progressive, "subsampling": subsampling, "restart_marker_rows": restart}
    described = jpeg(mode, **options, exif=exif(), comment=SECRET, xmp=SECRET, icc_profile=SECRET * 9000)
    assert SECRET in described
    assert without_metadata(described) == without_metadata(jpeg(mode, **options)) == jpeg(mode, **options)
    np.testing.assert_array_equal(decode(jpeg(mode, **options)), decode(described))


def test_color_spaces_are_kept() -> None:
    kept = jpeg("RGB", keep_rgb=True, exif=exif())
    plain = without_metadata(kept)
    assert plain is not None
    assert SECRET not in plain
    np.testing.assert_array_equal(decode(plain), decode(kept))


def test_what_follows_the_image_is_removed() -> None:
    assert without_metadata(jpeg() + jpeg(exif=exif())) == jpeg()  # as some cameras add a second picture


def test_bytes_that_fill_the_space_before_a_marker() -> None:
    plain = jpeg()
    assert without_metadata(plain[:2] + b"\xff\xff" + plain[2:]) == plain


@pytest.mark.parametrize("encoded", [b"", b"GIF89a", jpeg()[:-2], jpeg()[:300], jpeg()[:2], b"\x89PNG\r\n\x1a\n"])
def test_files_that_cannot_be_followed(encoded: bytes) -> None:
    assert without_metadata(encoded) is None


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "RGBA"])
def test_png(mode: str) -> None:
    def png(**options: Any) -> bytes:
        buffer = io.BytesIO()
        photo(mode).save(buffer, "PNG", **options)
        return buffer.getvalue()

    assert SECRET in png(exif=exif())
    assert without_metadata(png(exif=exif()) + SECRET) == png()


def test_thumbnails_and_chunks_of_others_are_removed() -> None:
    plain = jpeg()
    end = 4 + int.from_bytes(plain[4:6], "big")
    thumbnail = b"JFXX\0\x10" + SECRET
    segment = b"\xff\xe0" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail
    assert without_metadata(plain[:end] + segment + plain[end:]) == plain
    buffer = io.BytesIO()
    photo().save(buffer, "PNG")
    png, header = buffer.getvalue(), 8 + 25
    for kind in (b"caBX", b"prVt"):
        chunk = len(SECRET).to_bytes(4, "big") + kind + SECRET + zlib.crc32(kind + SECRET).to_bytes(4, "big")
        assert without_metadata(png[:header] + chunk + png[header:]) == png


@pytest.mark.parametrize("options", [{}, {"comment": b"\xff\xe1 Exif"}, {"icc_profile": b"\xff\xe1" * 40_000}])
def test_exif_is_found_where_pillow_finds_it(options: dict[str, Any]) -> None:
    assert not may_have_exif(jpeg(**options))
    described = jpeg(**options, exif=exif())
    assert may_have_exif(described)
    start = described.index(b"\xff\xe1")
    assert may_have_exif(described[:2] + b"\xff" + described[2:start] + described[start:])
    assert may_have_exif(jpeg(**options, xmp=SECRET))


@pytest.mark.parametrize("length", range(2, 24))
def test_a_header_that_ends_too_early_may_have_exif(length: int) -> None:
    assert may_have_exif(jpeg()[:length])
