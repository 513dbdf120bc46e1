"""Other backgrounds: the object's pixels stay, and all others are those of a paste that is written as loops."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgssl import randomness
from fgssl.data.loader import RawBatch, training_batches
from fgssl.interruption import Interrupted
from fgssl.run.execution import execute
from fgssl.settings.config import Config
from fgssl.settings.views import BackgroundSettings, ViewSettings
from fgssl.views import backgrounds, crops

ROWS = np.arange(4000)
SETTINGS = BackgroundSettings()


class Objects:
    """Images of noise, each with an ellipse as its object; row 5 has no object, and row 6 nothing else."""

    def __init__(self, count: int = 24) -> None:
        self.labels = np.zeros((count, 1), dtype=np.int64)
        self.source_ids = [f"{row}.png" for row in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, row: int) -> NDArray[np.uint8]:
        return np.random.default_rng(row).integers(0, 256, (*self._shape(row), 3), dtype=np.uint8)

    def mask(self, row: int) -> NDArray[np.bool_]:
        height, width = self._shape(row)
        if row in (5, 6):
            return np.full((height, width), row == 6)
        down, across = np.mgrid[:height, :width]
        return (down / height - 0.5) ** 2 + (across / width - 0.4) ** 2 < 0.01 * (1 + row % 7)

    def _shape(self, row: int) -> tuple[int, int]:
        return 20 + row % 7, 18 + 9 * (row % 5)


def batches(images: Objects, background: BackgroundSettings, **changes: Any) -> list[RawBatch]:
    views = ViewSettings(image_size=16, colors_on="device", background=background)
    given = {"num_views": 2, "with_original": True, "steps": range(4), "global_batch_size": 12, "threads": 1}
    given |= {"seed": 3, "images_per_class": None, "masks": images.mask, **changes}
    return list(training_batches(images, views, **given))  # type: ignore[arg-type]


# --------------------------------------------------------------------------- the same paste, as loops


def slow_filled(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    height, width = mask.shape
    reach = max(1, min(height, width) // 64)
    near = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        near[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    cells = np.full((1, 1, 3), 128, dtype=np.uint8)
    for side in (1, 2, 4, 8, 16):
        coarser = crops.resized(cells, side)
        cells = np.empty((side, side, 3), dtype=np.uint8)
        for y in range(side):
            for x in range(side):
                part = np.s_[y * height // side : (y + 1) * height // side, x * width // side : (x + 1) * width // side]
                known = pixels[part][~near[part]].astype(int)
                cells[y, x] = [round(c) for c in known.mean(axis=0)] if len(known) else coarser[y, x]
    filled = crops.scaled(cells, height, width)
    filled[~near] = pixels[~near]
    return filled


def slow_middle(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the image cut to the shape of the other, left and right or above and below, and resized."""
    own_height, own_width = pixels.shape[:2]
    if own_width * height > own_height * width:
        kept = own_height * width // height
        start = (own_width - kept) // 2
        pixels = pixels[:, start : start + kept]
    else:
        kept = own_width * height // width
        start = (own_height - kept) // 2
        pixels = pixels[start : start + kept]
    return crops.scaled(np.ascontiguousarray(pixels), height, width)


def slow_texture(view_key: int, view: int, row: int, height: int, width: int) -> NDArray[np.uint8]:
    numbers = randomness.uniform(3, "texture", view_key, view, rows=np.array([row]), columns=7 + 64 * 64)[0].tolist()
    side = (4, 8, 16, 32, 64)[int(5 * numbers[0])]
    grains = np.empty((side, side, 3), dtype=np.uint8)
    for place in range(side * side):
        for channel in range(3):
            first, last = 256 * numbers[1 + channel], 256 * numbers[4 + channel]
            grains[place // side, place % side, channel] = int(first + (last - first) * numbers[7 + place])
    return slow_middle(grains, height, width)


def slow_image(
    images: Objects, background: BackgroundSettings, view_key: int, view: int, row: int
) -> NDArray[np.uint8]:
    """Return the image from which a view is cut, pixel by pixel."""
    image, mask = images.pixels(row), images.mask(row)
    height, width = mask.shape
    drawn = randomness.uniform(3, "background", view_key, view, rows=np.array([row]), columns=4)[0].tolist()
    if drawn[0] >= background.probability or not mask.any():
        return image
    kind = background.kinds[int(drawn[1] * len(background.kinds))]
    if kind == "image":
        others = [other % len(images) for other in range(row + 1, row + len(images))]
        other = others[int(drawn[2] * len(others))]
        ground = slow_middle(slow_filled(images.pixels(other), images.mask(other)), height, width)
    elif kind == "gray":
        ground = np.full((height, width, 3), int(256 * drawn[3]))
    else:
        ground = slow_texture(view_key, view, row, height, width)
    pasted = np.empty((height, width, 3), dtype=np.uint8)
    for y in range(height):
        for x in range(width):
            pasted[y, x] = image[y, x] if mask[y, x] else ground[y, x]
    return pasted


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("image",), ("gray",), ("texture",), ("image", "gray", "texture")])
def test_views_are_cut_from_the_paste_that_loops_make(kinds: Any) -> None:
    images, background = Objects(), BackgroundSettings(probability=0.7, kinds=kinds)
    pasted = 0
    for batch in batches(images, background):
        for position, row in enumerate(batch.rows.tolist()):
            for view in range(2):
                image = slow_image(images, background, batch.view_key, view, row)
                pasted += not (image == images.pixels(row)).all()
                numbers = crops.crop_numbers(3, "training", batch.view_key, view, batch.rows)[position]
                expected = crops.random_resized_crop(image, numbers, (0.2, 1.0), 16)
                assert (batch.images[view][position] == expected).all()
            assert (batch.images[2][position] == crops.resized(images.pixels(row), 16)).all()
    assert 48 < pasted < 86  # of 96, at 0.7


# ------------------------------------------------------------------------------------- what is drawn


def test_the_share_of_pasted_views_is_the_probability() -> None:
    found = backgrounds.drawn(SETTINGS, 0, 0, 0, ROWS, 4000)
    shares = {kind: found.kinds.count(kind) / len(ROWS) for kind in (*SETTINGS.kinds, None)}
    assert shares == pytest.approx({"image": 0.1, "gray": 0.1, "texture": 0.1, None: 0.7}, abs=0.02)
    assert np.bincount(found.grays, minlength=256).max() < 40


def test_an_image_never_gets_its_own_background_back() -> None:
    found = backgrounds.drawn(SETTINGS, 0, 0, 0, ROWS, 4000)
    assert not (found.others == ROWS).any()
    assert len(np.unique(found.others)) > 2400  # of 4000 drawn with repetition: 1 - 1/e
    assert backgrounds.drawn(SETTINGS, 0, 0, 0, np.array([0]), 1).others.tolist() == [0]  # there is no other


@pytest.mark.parametrize("changed", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_backgrounds_depend_on_seed_epoch_view_and_image_alone(changed: tuple[int, int, int]) -> None:
    whole = backgrounds.drawn(SETTINGS, 0, 0, 0, ROWS, 4000)
    part = backgrounds.drawn(SETTINGS, 0, 0, 0, ROWS[::-7], 4000)
    assert part.kinds == whole.kinds[::-7]
    assert (part.others == whole.others[::-7]).all()
    other = backgrounds.drawn(SETTINGS, *changed, ROWS, 4000)
    assert other.kinds != whole.kinds
    assert not (other.others == whole.others).all()


@pytest.mark.parametrize("changes", [{"threads": 3}, {"global_batch_size": 6, "steps": range(8)}])
def test_threads_and_batch_sizes_change_nothing(changes: dict[str, Any]) -> None:
    found, expected = (batches(Objects(), SETTINGS, **given) for given in (changes, {}))
    for number in range(3):
        one, other = (np.concatenate([batch.images[number] for batch in each]) for each in (found, expected))
        assert (one == other).all()


def test_starting_later_or_taking_a_share_changes_nothing() -> None:
    whole = batches(Objects(), SETTINGS)
    late, share = batches(Objects(), SETTINGS, steps=range(2, 4)), batches(Objects(), SETTINGS, share=slice(3, 6))
    for number in range(3):
        assert all((a.images[number] == b.images[number]).all() for a, b in zip(whole[2:], late, strict=True))
        assert all((a.images[number][3:6] == b.images[number]).all() for a, b in zip(whole, share, strict=True))


def test_without_masks_views_keep_their_backgrounds() -> None:
    never = dataclasses.replace(SETTINGS, probability=0.0)
    plain, unpasted = batches(Objects(), SETTINGS, masks=None), batches(Objects(), never)
    pasted = batches(Objects(), SETTINGS)
    for number in (0, 1):
        images = [np.concatenate([batch.images[number] for batch in each]) for each in (plain, unpasted, pasted)]
        assert (images[0] == images[1]).all()
        assert 0.1 < (images[0] != images[2]).any(axis=(1, 2, 3)).mean() < 0.5


# ------------------------------------------------------------------------------------ filled objects


def test_nothing_of_an_object_is_left_in_its_background() -> None:
    images = Objects()
    for row in (0, 3, 11):
        pixels, mask = images.pixels(row), images.mask(row)
        painted = pixels.copy()
        painted[mask] = (255, 0, 255)
        found = backgrounds.without_object(painted, mask)
        assert (found == backgrounds.without_object(pixels, mask)).all()
        far = np.ones_like(mask)
        far[1:-1, 1:-1] = ~np.lib.stride_tricks.sliding_window_view(mask, (3, 3)).any(axis=(2, 3))
        assert (found[far & ~mask] == pixels[far & ~mask]).all()


def test_an_object_takes_the_color_around_it() -> None:
    pixels = np.full((60, 80, 3), (10, 200, 90), dtype=np.uint8)
    mask = np.zeros((60, 80), dtype=np.bool_)
    mask[20:50, 10:60] = True
    pixels[mask] = 0
    assert (backgrounds.without_object(pixels, mask) == (10, 200, 90)).all()


def test_an_image_that_is_all_object_leaves_gray() -> None:
    pixels = np.zeros((9, 7, 3), dtype=np.uint8)
    assert (backgrounds.without_object(pixels, np.ones((9, 7), dtype=np.bool_)) == 128).all()


# --------------------------------------------------------------------------------------- whole runs

SIMCLR = ("method={name: simclr, hidden_width: 16, projection_width: 8}", "views.background=true")


def test_interrupted_and_resumed_equals_straight(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny_config(*SIMCLR)
    for step in (4, 6, 9):  # of 12
        with pytest.raises(Interrupted):
            execute(config, tmp_path / "stopped", last_step=step)
    (tmp_path / "straight").mkdir()
    (tmp_path / "straight" / "data").symlink_to(tmp_path / "stopped" / "data")  # drawn once
    one, other = (execute(config, tmp_path / name) for name in ("stopped", "straight"))
    records = [folder.trained() for folder in (one, other)]
    assert records[0] is not None
    assert records[1] is not None
    assert records[0].state_sha256 == records[1].state_sha256
    assert one.metrics.read_text() == other.metrics.read_text()
    plain = execute(tiny_config(SIMCLR[0], "data.toy.draw_masks=true"), tmp_path / "straight").trained()
    assert plain is not None
    assert plain.data_version == records[0].data_version
    assert plain.state_sha256 != records[0].state_sha256
