"""Small photographs on the disk, and a source that packs them."""

import functools
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fgssl.data.packing import pack
from fgssl.data.source import Sample, SourceDataset
from fgssl.data.sources.encoded_image import file_sample
from fgssl.settings.packing import PackingSettings
from fgssl.store.manifest import Level

SHARD_BYTES = 6000
on_reading: Callable[[str], None] | None = None
"""Function called with the name of each image before it is read."""


def read(file: Path, label: int) -> Sample:
    if on_reading is not None:
        on_reading(file.name)
    return file_sample(file, (label,), file.name, group=f"group {int(file.stem) // 3}" if label else "")


@functools.cache
def jpeg(number: int, width: int = 48, height: int = 36, **options: Any) -> bytes:
    rough = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def dataset(images: Path) -> SourceDataset:
    files = sorted(images.iterdir(), key=lambda file: int(file.stem))
    recipes = [partial(read, file, number % 2) for number, file in enumerate(files)]
    level = Level("class", ("a", "b"))
    return SourceDataset("made-up", "test", {}, (level,), {"train": recipes[:40], "test": recipes[40:]})


def packed(images: Path, destination: Path, **settings: Any) -> list[str]:
    """Pack the images and return the remarks."""
    remarks: list[str] = []
    pack(dataset(images), destination, PackingSettings(**settings), shard_bytes=SHARD_BYTES, remark=remarks.append)
    return remarks
