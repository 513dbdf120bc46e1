"""Decoding: libjpeg-turbo and Pillow give the same pixels, however odd the file."""

import io
from itertools import product

import numpy as np
import pytest
from PIL import Image, ImageOps

from fgssl.data import decoding
from fgssl.data.decoding import decode
from fgssl.errors import DataError

SIZE = (101, 77)


def picture(mode: str = "RGB") -> Image.Image:
    smooth = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(smooth).resize(SIZE, Image.Resampling.BICUBIC).convert(mode)


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def turned(orientation: object) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


ODD = {
    f"{mode}, progressive {progressive}, subsampling {subsampling}, orientation {orientation}": jpeg(
        mode, progressive=progressive, subsampling=subsampling, exif=turned(orientation), quality=80
    )
    for mode, progressive, subsampling, orientation in product(
        ("RGB", "L", "CMYK"), (False, True), ("4:4:4", "4:2:2", "4:2:0"), range(10)
    )
}


# A color profile of three segments precedes the Exif block.
ODD["orientation after 200 kB"] = jpeg(icc_profile=bytes(200_000), exif=turned(6))


@pytest.mark.parametrize("with_simplejpeg", [True, False])
def test_both_decoders_give_the_same_pixels(with_simplejpeg: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_simplejpeg:
        monkeypatch.setattr(decoding, "simplejpeg", None)
    for name, encoded in ODD.items():
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
        found = decode(encoded)
        assert found.flags.c_contiguous, name
        np.testing.assert_array_equal(found, np.asarray(expected), name)


@pytest.mark.parametrize("tags", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0 no tags at all"])
def test_a_damaged_exif_block_turns_nothing(tags: bytes) -> None:
    np.testing.assert_array_equal(decode(jpeg(exif=tags)), decode(jpeg()))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_cut_jpeg_is_read_as_far_as_it_goes_or_refused(share: float) -> None:
    whole = jpeg(quality=95)
    cut = whole[: int(share * len(whole))]
    assert decode(cut).shape == (77, 101, 3)
    with pytest.raises(ValueError, match="Premature end"):
        decode(cut, strict=True)


def test_without_simplejpeg_no_jpeg_is_decoded_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "simplejpeg", None)
    with pytest.raises(DataError, match="cannot be checked for damage, since simplejpeg is not installed: install it"):
        decode(jpeg(), strict=True)
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), strict=True), np.asarray(picture()))


def test_no_image() -> None:
    for encoded in (b"", b"\xff\xd8\xff", b"no image", jpeg()[:20]):
        with pytest.raises((OSError, ValueError)):
            decode(encoded)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_other_modes_become_rgb(mode: str) -> None:
    image, buffer = picture().convert(mode), io.BytesIO()
    image.save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue()), np.asarray(image.convert("RGB")))


def test_16_bit_gray_is_scaled_not_clipped() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 257, 25700, 65535]], dtype=np.uint16)).save(buffer, "PNG")
    assert decode(buffer.getvalue())[0, :, 0].tolist() == [0, 1, 100, 255]


def test_a_png_that_lies_on_its_side_is_put_upright() -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", exif=turned(6))  # the camera was turned: rotate by a quarter clockwise to view
    assert (decode(buffer.getvalue()) == np.rot90(np.asarray(picture()), k=-1)).all()
    assert decode(buffer.getvalue()).flags.writeable
