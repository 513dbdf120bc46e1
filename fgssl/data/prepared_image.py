"""Images between source and shards: each is prepared as it will be stored, and then put into the batch of a shard."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from fgssl.data.decoding import upright_size
from fgssl.data.masks import MaskFolder, decoded_mask
from fgssl.data.packed_image import Finding, packed_image
from fgssl.data.packing_folder import source_of
from fgssl.data.source import Sample, UnreadableImageError
from fgssl.errors import DataError
from fgssl.settings.packing import PackingSettings

DIGEST_BYTES = 8
"""Bytes of a SHA-256 by which images are compared; among a million images two are equal by chance in 1e-8 cases."""


@dataclass(frozen=True)
class PreparedImage:
    """Sample with the image as it will be stored, or the reason why it cannot be."""

    sample: Sample | None
    made_of: str = ""
    digest: bytes = b""
    findings: Mapping[Finding, str] = field(default_factory=dict)
    fault: str = ""
    unread: bool = False
    """Whether the file system did not give the file, so that nothing is known about the image."""


def prepared(
    recipe: Callable[[], Sample], settings: PackingSettings, drawn: bool, masks: MaskFolder | None = None
) -> PreparedImage:
    """Return the image of a source as it will be stored, with its mask from `masks`; a drawn one stays as it is."""
    made_of = source_of(recipe)
    try:
        sample = recipe()
    except UnreadableImageError as error:
        return PreparedImage(None, made_of, fault=str(error), unread=_is_of_system(error.__cause__))
    digest = hashlib.sha256(sample.image).digest()[:DIGEST_BYTES]
    if drawn:
        return PreparedImage(sample, made_of, digest)
    try:
        packed = packed_image(sample.image, settings, sample.damage)
    except (MemoryError, DataError):
        raise
    except Exception as error:  # Pillow raises many types for damaged files
        return PreparedImage(None, made_of, fault=f"{sample.source_id}: {error}", unread=_is_of_system(error))
    stored, findings = replace(sample, image=packed.encoded), dict(packed.findings)
    if masks is not None:
        try:
            size = upright_size(sample.image)
            mask = masks.packed(sample.source_id, *size, upright_size(packed.encoded))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            return PreparedImage(None, made_of, fault=f"{sample.source_id}: {reason}", unread=_is_of_system(error))
        stored = replace(stored, mask=mask)
        if not decoded_mask(mask).any():
            findings[Finding.NO_OBJECT] = ""
    return PreparedImage(stored, made_of, digest, findings)


def _is_of_system(error: BaseException | None) -> bool:
    """Return whether the system raised the error; an `OSError` of a decoder has no number."""
    return isinstance(error, OSError) and error.errno is not None


def batches(images: Iterator[PreparedImage], shard_bytes: int) -> Iterator[list[PreparedImage]]:
    """Yield the images of each shard; an unreadable one is in the batch of the readable image before it, if any."""
    batch: list[PreparedImage] = []
    size = 0
    for each in images:
        image_bytes = len(each.sample.image) + len(each.sample.mask or b"") if each.sample else 0
        if size and image_bytes and size + image_bytes > shard_bytes:
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += image_bytes
    if batch:
        yield batch
