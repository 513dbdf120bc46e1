"""Thumbnails on sprite sheets, and embeddings that fit into a number of bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from fgssl.report.page.blocks import Blocks, add_embedding
from fgssl.report.page.content import Embedding
from fgssl.report.page.fitting import SIZES, fit, make_thumbnails
from tests.report.page.toy import pixels, toy_embedding


def size_of(embedding: Embedding) -> int:
    blocks = Blocks()
    add_embedding(blocks, embedding)
    return sum(map(len, blocks.contents))


def test_an_image_lies_where_the_page_looks_for_it() -> None:
    made = make_thumbnails(pixels, range(290), 32)
    assert len(made.sheets) == 2
    row = 256 + 18
    sheet = np.asarray(Image.open(io.BytesIO(made.sheets[1])).convert("RGB"), dtype=float)
    assert sheet.shape == (3 * 32, 16 * 32, 3)  # 34 images in three rows
    expected = np.asarray(Image.fromarray(pixels(row)).resize((32, 32), Image.Resampling.BOX), dtype=float)
    found = sheet[32:64, 64:96]
    assert np.abs(found - expected).mean() < 6
    assert made.aspects[row] == pytest.approx(120 / pixels(row).shape[0], abs=0.01)


def test_the_same_images_give_the_same_bytes() -> None:
    assert make_thumbnails(pixels, range(40), 48).sheets == make_thumbnails(pixels, range(40), 48).sheets


def test_the_largest_thumbnails_that_fit_are_taken() -> None:
    whole = toy_embedding()
    sizes = []
    for most_bytes in (10_000_000, 400_000, 250_000, 180_000):
        found = fit(whole, pixels, most_bytes)
        assert found.thumbnails is not None
        assert size_of(found) <= most_bytes
        sizes.append(found.thumbnails.size)
    assert sizes[0] == SIZES[0]
    assert sizes == sorted(sizes, reverse=True)


def test_past_the_smallest_size_images_are_left_out_by_class() -> None:
    whole = toy_embedding(600)
    outlier = np.any([one.outliers.any(axis=1) for one in whole.maps], axis=0)
    found = fit(whole, pixels, 60_000)
    assert size_of(found) <= 60_000
    assert 40 < len(found.ids) < 600
    assert found.thumbnails is not None
    assert found.thumbnails.size == SIZES[-1]
    assert {whole.ids[row] for row in np.flatnonzero(outlier)} <= set(found.ids)
    plain = [found.levels[0].labels[row] for row, name in enumerate(found.ids) if not outlier[whole.ids.index(name)]]
    counts = np.bincount(plain, minlength=12)
    assert counts.min() > 0
    assert counts.max() - counts.min() <= 3
    assert f"{len(found.ids):,} of 600 images are shown" in found.left_out
    assert f"all {int(outlier.sum())} outliers, and the same share" in found.left_out
    assert "were computed with all images of the map." in found.left_out


def test_too_little_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="no image fits into 100 bytes"):
        fit(toy_embedding(), pixels, 100)
