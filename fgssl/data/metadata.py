"""Metadata of image files, such as the place where a photograph was taken: whether there is any, and its removal."""

import re

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""Marker that ends compressed data, in which 0xFF is followed by 0 or by a restart marker."""
_SCAN, _END, _COMMENT, _EXIF_OR_XMP = 0xDA, 0xD9, 0xFE, 0xE1
_APPLICATION = range(0xE0, 0xF0)
_COLORS = ((0xE0, b"JFIF\0"), (0xEE, b"Adobe"))
"""Segments that state how colors are stored, by their code and the beginning of their content."""
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT")
"""Chunks of pixels and of the meaning of their values."""


def may_have_exif(jpeg: bytes) -> bool:
    """Return whether a JPEG file may have Exif or XMP; false means that no such segment stands before its pixels."""
    start, end = len(_JPEG), len(jpeg) - 4
    while start <= end and jpeg[start] == 0xFF and jpeg[start + 1] != _SCAN:
        if jpeg[start + 1] in (_EXIF_OR_XMP, 0xFF):
            return True
        start += 2 + (jpeg[start + 2] << 8 | jpeg[start + 3])
    return start > end or jpeg[start] != 0xFF


def without_metadata(encoded: bytes) -> bytes | None:
    """Return a JPEG or PNG file without Exif, XMP, comments, and anything after its end; its pixels stay the same.

    The tag Orientation is lost as well, so the image must be upright. Color profiles of JPEG files, which training does
    not apply, are removed too. Return None if the file is of another format, or its segments cannot be followed.
    """
    if encoded.startswith(_PNG):
        return _png_without_metadata(encoded)
    return _jpeg_without_metadata(encoded) if encoded.startswith(_JPEG) else None


def _jpeg_without_metadata(encoded: bytes) -> bytes | None:
    kept, start = [_JPEG], len(_JPEG)
    while (marker := encoded[start : start + 2])[:1] == b"\xff" and len(marker) == 2:
        code = marker[1]
        if code == 0xFF:  # bytes that fill the space before a marker
            start += 1
            continue
        if code == _END:
            return b"".join([*kept, marker])
        end = start + 2 + max(2, int.from_bytes(encoded[start + 2 : start + 4], "big"))
        if code == _SCAN:
            after = _AFTER_SCAN.search(encoded, end)
            if after is None:
                return None
            end = after.end() - 2
        states_colors = any(code == one and encoded.startswith(name, start + 4) for one, name in _COLORS)
        if states_colors or code not in (*_APPLICATION, _COMMENT):
            kept.append(encoded[start:end])
        start = end
    return None


def _png_without_metadata(encoded: bytes) -> bytes | None:
    kept, start = [_PNG], len(_PNG)
    while start + 12 <= len(encoded):
        end = start + 12 + int.from_bytes(encoded[start : start + 4], "big")
        kind = encoded[start + 4 : start + 8]
        if kind in _PNG_PIXELS:
            kept.append(encoded[start:end])
        if kind == b"IEND":
            return b"".join(kept)
        start = end
    return None
