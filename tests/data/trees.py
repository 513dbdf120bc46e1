"""Small trees in the layouts of official archives, drawn by the tests of sources."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgssl.data.source import SourceDataset
from fgssl.errors import DataError


def picture(path: Path, height: int = 6, width: int = 5) -> None:
    """Save a picture of noise, which depends on the name of the file only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(zlib.crc32(path.name.encode()))
    Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def edit(path: Path, old: str, new: str) -> None:
    """Replace `old`, which must be there, in a text file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def message(read: Callable[[], SourceDataset]) -> str:
    """Return the message of the `DataError` that `read` raises."""
    with pytest.raises(DataError) as caught:
        read()
    return str(caught.value)


def packed_ids(dataset: SourceDataset) -> dict[str, dict[str, tuple[str, ...]]]:
    """Read all samples and return the class names of each by split and source id."""
    return {
        split: {
            sample.source_id: tuple(
                level.classes[label] for level, label in zip(dataset.levels, sample.labels, strict=True)
            )
            for sample in (recipe() for recipe in recipes)
        }
        for split, recipes in dataset.splits.items()
    }
