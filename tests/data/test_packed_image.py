"""The form in which shards store images: pixels as training decodes them, JPEG as JPEG and all else without loss."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from fgssl.data.decoding import decode
from fgssl.data.packed_image import JPEG_QUALITY, Finding, PackedImage, packed_image
from fgssl.settings.packing import PackingSettings

DEFAULT = PackingSettings()
ORIGINAL = PackingSettings(shorter_side="original")


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rough = np.random.default_rng(width).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(highest: int, dtype: str) -> NDArray[Any]:
    return np.linspace(0, highest, 60 * 40).round().astype(dtype).reshape(40, 60)


def turned(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def comment() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "taken at home")
    text.add_itxt("XML:com.adobe.xmp", "<exif:GPSLatitude>50,5N</exif:GPSLatitude>")
    return text


def opened(packed: PackedImage) -> Any:  # formats add attributes to an Image
    return Image.open(io.BytesIO(packed.encoded))


def is_baseline(packed: PackedImage) -> bool:
    return "progressive" not in opened(packed).info and opened(packed).format == "JPEG"


# ---------------------------------------------------------------------------------------------- JPEG


@pytest.mark.parametrize(("width", "height", "size"), [(640, 480, (341, 256)), (300, 900, (256, 768))])
def test_large_jpeg_is_shrunk_to_a_shorter_side_of_256(width: int, height: int, size: tuple[int, int]) -> None:
    packed = packed_image(saved(photo(width, height), "JPEG", quality=95), DEFAULT)
    assert opened(packed).size == size
    assert is_baseline(packed)
    assert packed.findings == {Finding.SHRUNK: ""}
    expected = np.asarray(photo(width, height).resize(size, Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(decode(packed.encoded) - expected).mean() < 3
    assert opened(packed).layer[0][1:3] == (2, 2)  # chroma halved in both directions
    same_quality = PackedImage(saved(photo(9, 9), "JPEG", quality=JPEG_QUALITY), {})
    assert opened(packed).quantization == opened(same_quality).quantization


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = decode(packed_image(saved(Image.fromarray(stripes), "PNG"), DEFAULT).encoded)
    assert small.shape == (256, 256, 3)
    assert np.abs(small[:, 4:-4].astype(float) - 127.5).max() < 2


def test_small_baseline_jpeg_keeps_its_bytes() -> None:
    for mode in ("RGB", "L"):
        encoded = saved(photo(200, 256, mode), "JPEG")
        assert packed_image(encoded, DEFAULT) == PackedImage(encoded, {})
        assert packed_image(saved(photo(200, 256, mode), "JPEG", exif=turned(1)), DEFAULT).encoded == encoded


@pytest.mark.parametrize(
    "encoded",
    [
        saved(photo(120, 90), "JPEG", progressive=True, quality=95),
        saved(photo(120, 90, "CMYK"), "JPEG", quality=95),
        saved(photo(120, 90), "JPEG", exif=turned(6), quality=95),
    ],
    ids=["progressive", "CMYK", "turned"],
)
def test_odd_small_jpeg_is_stored_upright_as_baseline_rgb(encoded: bytes) -> None:
    packed = packed_image(encoded, DEFAULT)
    assert is_baseline(packed)
    assert opened(packed).mode == "RGB"
    assert not opened(packed).getexif()
    assert decode(packed.encoded).shape == decode(encoded).shape
    assert np.abs(decode(packed.encoded).astype(float) - decode(encoded)).mean() < 3


def test_gray_jpeg_stays_gray() -> None:
    assert opened(packed_image(saved(photo(600, 400, "L"), "JPEG"), DEFAULT)).mode == "L"


def test_original_keeps_the_bytes_of_any_jpeg_and_opaque_png() -> None:
    for encoded, finding in (
        (saved(photo(600, 400), "JPEG", progressive=True, exif=turned(6)), Finding.TURNED),
        (saved(photo(600, 400, "CMYK"), "JPEG"), Finding.CMYK),
        (saved(photo(600, 400, "P"), "PNG"), Finding.PALETTE),
    ):
        assert packed_image(encoded, ORIGINAL) == PackedImage(encoded, {finding: ""})


# -------------------------------------------------------------------------------------------- damage


def corrupted(mode: str = "RGB") -> bytes:
    """Return a JPEG that is whole in length, but whose middle was overwritten."""
    encoded = bytearray(saved(photo(240, 180, mode), "JPEG", quality=95))
    middle = len(encoded) // 2
    encoded[middle : middle + 40] = b"\xff\xd0" * 20  # markers out of place
    return bytes(encoded)


CUT = saved(photo(240, 180), "JPEG")[:-300]
CUT_CMYK = saved(photo(240, 180, "CMYK"), "JPEG")[:-300]


@pytest.mark.parametrize("encoded", [CUT, corrupted(), corrupted("CMYK")], ids=["cut", "corrupt", "corrupt CMYK"])
@pytest.mark.parametrize("settings", [DEFAULT, ORIGINAL], ids=["default", "original"])
def test_damaged_jpeg_is_refused_unless_it_is_accepted(encoded: bytes, settings: PackingSettings) -> None:
    with pytest.raises(ValueError, match=r"JPEG.*: replace it, or give accept_damaged=true"):
        packed_image(encoded, settings)
    accept = PackingSettings(shorter_side=settings.shorter_side, accept_damaged=True)
    packed = packed_image(encoded, accept)
    assert "JPEG" in packed.findings[Finding.DAMAGED]
    assert decode(packed.encoded, strict=True).shape == (180, 240, 3)  # encoded anew, it is whole
    assert np.abs(decode(packed.encoded).astype(float) - decode(encoded)).mean() < 5


def test_jpeg_of_which_nothing_can_be_read_is_never_accepted() -> None:
    for encoded in (CUT[:200], CUT_CMYK):  # Pillow, which converts CMYK, reads no cut file
        with pytest.raises(Exception, match=r"(?i)jpeg|truncated|identify|broken"):
            packed_image(encoded, PackingSettings(accept_damaged=True))


def test_damage_that_the_source_found_is_accepted_or_not() -> None:
    encoded = saved(photo(120, 90), "JPEG")
    with pytest.raises(ValueError, match="cut short: replace it, or give accept_damaged=true"):
        packed_image(encoded, DEFAULT, damage="cut short")
    packed = packed_image(encoded, PackingSettings(accept_damaged=True), damage="cut short")
    assert packed.findings == {Finding.DAMAGED: "cut short"}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("block", [b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0 no tags at all"])
def test_damaged_exif_is_read_as_not_turned(block: bytes) -> None:
    encoded = saved(photo(120, 90), "JPEG", exif=block)
    assert packed_image(encoded, ORIGINAL) == PackedImage(encoded, {Finding.EXIF: ""})
    packed = packed_image(encoded, DEFAULT)
    assert packed.findings == {Finding.EXIF: ""}
    assert "exif" not in opened(packed).info  # training does not meet it again
    shrunk = packed_image(saved(photo(600, 300), "JPEG", exif=block), DEFAULT)
    assert Finding.EXIF in shrunk.findings
    assert opened(shrunk).size == (512, 256)


def test_orientation_that_does_not_exist_is_a_damaged_exif_block() -> None:
    assert Finding.EXIF in packed_image(saved(photo(120, 90), "JPEG", exif=turned(77)), DEFAULT).findings
    assert not packed_image(saved(photo(120, 90), "JPEG", exif=turned(0)), DEFAULT).findings


# ------------------------------------------------------------------------------------------ lossless


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PPM", "RGB"), ("BMP", "RGB"), ("WEBP", "RGB"), ("TIFF", "RGB"), ("PPM", "L"), ("TIFF", "P"), ("PNG", "P")],
)
def test_other_formats_are_stored_as_png_without_loss(kind: str, mode: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    encoded = saved(photo(60, 40, mode), kind, **options)
    packed = packed_image(encoded, DEFAULT)
    assert opened(packed).format == "PNG"
    assert opened(packed).mode == mode if kind == "PNG" else ("L" if mode == "L" else "RGB")
    np.testing.assert_array_equal(decode(packed.encoded), decode(encoded))
    assert set(packed.findings) == ({Finding.PALETTE} if mode == "P" else set())


def test_small_png_is_stored_upright_and_without_metadata() -> None:
    plain = saved(photo(60, 40), "PNG")
    described = saved(photo(60, 40), "PNG", exif=turned(1), pnginfo=comment())
    assert packed_image(described, DEFAULT).encoded == plain
    assert packed_image(described, ORIGINAL).encoded == described
    upright = packed_image(saved(photo(60, 40), "PNG", exif=turned(6)), DEFAULT)
    assert not opened(upright).getexif()
    np.testing.assert_array_equal(decode(upright.encoded), np.rot90(np.asarray(photo(60, 40)), k=-1))


def test_shrunk_png_stays_lossless() -> None:
    packed = packed_image(saved(photo(640, 480), "PNG"), DEFAULT)
    assert opened(packed).format == "PNG"
    expected = cv2.resize(np.asarray(photo(640, 480)), (341, 256), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(decode(packed.encoded), expected)


def test_orientation_of_other_formats_is_applied() -> None:
    packed = packed_image(saved(photo(60, 40), "WEBP", lossless=True, exif=turned(6)), DEFAULT)
    expected = np.asarray(photo(60, 40).transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(np.asarray(opened(packed)), expected)


@pytest.mark.parametrize(("ground", "color"), [("white", 255), ("black", 0)])
def test_transparency_is_composed_on_the_ground(ground: Any, color: int) -> None:
    pixels = np.full((6, 8, 4), (200, 100, 50, 255), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = (1, 2, 3, 0), (200, 100, 50, 51)
    for settings in (PackingSettings(ground=ground), PackingSettings(ground=ground, shorter_side="original")):
        packed = packed_image(saved(Image.fromarray(pixels), "PNG", exif=turned(3)), settings)
        assert packed.findings == {Finding.TRANSPARENT: "", Finding.TURNED: ""}
        stored = decode(packed.encoded)[::-1, ::-1]
        assert stored[0, 0].tolist() == [color] * 3
        np.testing.assert_allclose(stored[0, 1], np.array([200, 100, 50]) * 0.2 + color * 0.8, atol=1)
        assert stored[1, 1].tolist() == [200, 100, 50]
        assert opened(packed).mode == "RGB"


def test_transparent_palette_and_gray_images() -> None:
    palette = photo(60, 40, "P")
    transparent = packed_image(saved(palette, "PNG", transparency=palette.getpixel((0, 0))), DEFAULT)
    assert decode(transparent.encoded)[0, 0].tolist() == [255] * 3
    gray = Image.merge("LA", (Image.new("L", (9, 9), 40), Image.new("L", (9, 9), 0)))
    assert decode(packed_image(saved(gray, "PNG"), DEFAULT).encoded).min() == 255


def test_opaque_alpha_is_no_transparency() -> None:
    encoded = saved(photo(60, 40, "RGBA"), "PNG")
    assert packed_image(encoded, DEFAULT) == PackedImage(encoded, {})


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("highest", "depth"), [(65535, {}), (4095, {Finding.DEPTH: "values up to 4095"})])
def test_colors_of_16_bits_are_noted(suffix: str, channels: int, highest: int, depth: dict[Finding, str]) -> None:
    values = np.repeat(gradient(highest, "<u2")[..., None], channels, axis=2)
    values[..., 3:] = 65535
    found = packed_image(cv2.imencode(suffix, values)[1].tobytes(), DEFAULT).findings
    assert found == {Finding.DEEP: "", **depth}


@pytest.mark.parametrize(
    ("kind", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2"), ("TIFF", "<i4")]
)
@pytest.mark.parametrize("highest", [65535, 4095])
def test_16_bits_are_stored_as_training_sees_them(kind: str, dtype: str, highest: int) -> None:
    values = gradient(highest, dtype)
    packed = packed_image(saved(Image.fromarray(values), kind), DEFAULT)
    seen = decode(packed.encoded)
    np.testing.assert_array_equal(seen, np.repeat((values // 257)[..., None], 3, axis=2))
    assert seen.max() == highest // 257
    expected = {} if highest == 65535 else {Finding.DEPTH: "values up to 4095"}
    assert packed.findings == {Finding.DEEP: "", **expected}


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "cannot identify image file"),
        (b"no image", "cannot identify image file"),
        (saved(photo(60, 40), "PNG")[:-30], "."),
        (saved(photo(60, 40, "CMYK"), "TIFF"), "PNG cannot hold mode CMYK without loss; convert it to RGB"),
        (saved(photo(60, 40), "TIFF", save_all=True, append_images=[photo(60, 41)]), "it holds several images"),
        (saved(Image.fromarray(gradient(1, "<f4")), "TIFF"), "PNG cannot hold mode F"),
        (saved(Image.fromarray(gradient(70_000, "<i4")), "TIFF"), "values from 0 to 70000: scale them to 0-65535"),
    ],
)
def test_images_that_cannot_be_packed(encoded: bytes, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        packed_image(encoded, DEFAULT)


def test_size_limit_is_a_setting() -> None:
    encoded = saved(photo(500, 300), "JPEG")
    with pytest.raises(ValueError, match=r"has 0\.15 megapixels, but max_megapixels is 0\.1: shrink it, or raise"):
        packed_image(encoded, PackingSettings(max_megapixels=0.1))
    assert packed_image(encoded, PackingSettings(max_megapixels=0.15)).encoded


def test_image_that_training_would_refuse_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fgssl.data.packed_image.PILLOW_LIMIT", 120_000)
    for encoded in (saved(photo(500, 300), "JPEG"), saved(photo(500, 300), "JPEG", exif=turned(6))):
        for settings in (ORIGINAL, PackingSettings(shorter_side=300)):  # a turned image is encoded anew
            with pytest.raises(ValueError, match="more than training reads: give a smaller shorter_side"):
                packed_image(encoded, settings)
        assert min(opened(packed_image(encoded, DEFAULT)).size) == 256
