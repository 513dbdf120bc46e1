"""Batches: the same pixels for any number of threads and any first step."""

import dataclasses
import io
import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fgssl.data.decoding import decode
from fgssl.data.loader import RawBatch, evaluation_batches, original_batches, training_batches
from fgssl.data.sampling import rows_of_step
from fgssl.errors import DataError
from fgssl.settings.views import BackgroundSettings, RecipeSettings, ViewSettings
from fgssl.views import changes, crops, on_cpu

VIEWS = ViewSettings(image_size=16, colors_on="device")


class InMemory:
    """Source of PNGs of many sizes, with invalid bytes in the `broken` rows."""

    def __init__(self, count: int = 40, broken: dict[int, bytes] | None = None) -> None:
        self.encoded = []
        for row in range(count):
            random = np.random.default_rng(row)
            pixels = random.integers(0, 256, (20 + row % 7, 18 + row % 5, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            self.encoded.append((broken or {}).get(row, buffer.getvalue()))
        self.read_rows: list[int] = []
        self.labels = np.stack([np.arange(count) % 4, np.arange(count) % 2], axis=1)

    def __len__(self) -> int:
        return len(self.encoded)

    def pixels(self, row: int) -> NDArray[np.uint8]:
        self.read_rows.append(row)
        return decode(self.encoded[row])

    @property
    def source_ids(self) -> list[str]:
        return [f"folder/image {row}.png" for row in range(len(self))]


def training(images: InMemory, steps: range = range(7), threads: int = 1, **changes: object) -> Iterator[RawBatch]:
    arguments = {
        "num_views": 2,
        "with_original": True,
        "seed": 0,
        "global_batch_size": 16,
        "images_per_class": None,
    } | changes
    views = arguments.pop("views", VIEWS)
    return training_batches(images, views, steps=steps, threads=threads, **arguments)  # type: ignore[arg-type]


def assert_equal(one: list[RawBatch], other: list[RawBatch]) -> None:
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert (first.step, first.epoch) == (second.step, second.epoch)
        assert (first.rows == second.rows).all()
        assert all((one == other).all() for one, other in zip(first.images, second.images, strict=True))


def test_a_batch_holds_two_crops_and_the_resized_image_of_every_row() -> None:
    images = InMemory()
    found = list(training(images))
    assert [(batch.step, batch.epoch) for batch in found] == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)]
    for batch in found:
        assert [array.shape for array in batch.images] == 3 * [(16, 16, 16, 3)]
        assert {array.dtype for array in batch.images} == {np.dtype(np.uint8)}
        assert (batch.rows == rows_of_step(batch.step, 40, 16, seed=0)).all()
        for position, row in enumerate(batch.rows):
            image = decode(images.encoded[row])
            for view in range(2):
                numbers = crops.crop_numbers(0, "training", batch.epoch, view, batch.rows[position : position + 1])[0]
                expected = crops.random_resized_crop(image, numbers, VIEWS.crop_area, 16)
                assert (batch.images[view][position] == expected).all()
            assert (batch.images[2][position] == crops.resized(image, 16)).all()


@pytest.mark.parametrize("threads", [2, 3, 50])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    assert_equal(list(training(InMemory(), threads=threads)), list(training(InMemory(), threads=1)))


@pytest.mark.parametrize("threads", [1, 3])
def test_views_are_colored_unless_the_device_does_it(threads: int) -> None:
    """The changes of a view are drawn alike in both places."""
    views = ViewSettings(image_size=16, recipes=(RecipeSettings(), RecipeSettings(solarize_probability=0.5)))
    plain = list(training(InMemory(), views=dataclasses.replace(views, colors_on="device")))
    for batch, crops_only in zip(training(InMemory(), views=views, threads=threads), plain, strict=True):
        for view, recipe in enumerate(views.of_each(2)):
            drawn = changes.drawn(recipe, 0, batch.view_key, view, batch.rows)
            for position, crop in enumerate(crops_only.images[view]):
                on_cpu.change(expected := crop.copy(), drawn, position, recipe)
                assert (batch.images[view][position] == expected).all()
            assert not (batch.images[view] == crops_only.images[view]).all()
        assert (batch.images[2] == crops_only.images[2]).all()


def test_starting_later_changes_nothing() -> None:
    assert_equal(list(training(InMemory(), range(4, 7))), list(training(InMemory(), range(7)))[4:])


def test_crops_do_not_depend_on_the_batch_size() -> None:
    """Within an epoch the same images come in the same order, with the same crops."""
    for crop in range(3):
        wide = np.concatenate([batch.images[crop] for batch in training(InMemory(), range(2))])
        narrow = np.concatenate([batch.images[crop] for batch in training(InMemory(), range(4), global_batch_size=8)])
        assert (wide == narrow).all()


def test_every_image_is_read_once_a_batch() -> None:
    images = InMemory()
    batches = list(training(images, range(2)))
    assert sorted(images.read_rows) == sorted(np.concatenate([batch.rows for batch in batches]).tolist())


def test_each_recipe_has_its_size_and_area() -> None:
    """Multi-crop: two large views, three small ones of at most a tenth of the image, and the original."""
    large = RecipeSettings(count=2, crop_area=(0.25, 1.0))
    small = RecipeSettings(count=3, crop_area=(0.05, 0.1), image_size=8)
    views = ViewSettings(image_size=16, recipes=(large, small), colors_on="device")
    images = InMemory()
    for batch in training(images, views=views, num_views=5, threads=2):
        assert [array.shape[1] for array in batch.images] == [16, 16, 8, 8, 8, 16]
        for view in range(5):
            area, size = ((0.25, 1.0) if view < 2 else (0.05, 0.1), batch.images[view].shape[1])
            numbers = crops.crop_numbers(0, "training", batch.view_key, view, batch.rows)
            for position, row in enumerate(batch.rows):
                image = decode(images.encoded[row])
                left, top, right, bottom = crops.random_crop_box(
                    image.shape[1], image.shape[0], numbers=numbers[position], area=area
                )
                share = (right - left) * (bottom - top) / (image.shape[0] * image.shape[1])
                assert share < (0.15 if view > 1 else 1.01)
                expected = crops.random_resized_crop(image, numbers[position], area, size)
                assert (batch.images[view][position] == expected).all()


def test_only_the_asked_crops_are_made() -> None:
    no_views = next(iter(training(InMemory(), num_views=0)))
    assert [array.shape for array in no_views.images] == [(16, 16, 16, 3)]
    no_original = next(iter(training(InMemory(), with_original=False)))
    assert [array.shape for array in no_original.images] == 2 * [(16, 16, 16, 3)]
    whole = next(iter(training(InMemory())))
    assert [array.tolist() for array in no_original.images] == [array.tolist() for array in whole.images[:2]]
    assert [array.tolist() for array in no_views.images] == [whole.images[2].tolist()]


@pytest.mark.parametrize("broken", [b"no image", b"\x89PNG\r\n\x1a\n", b""])
def test_an_unreadable_image_is_named(broken: bytes) -> None:
    images = InMemory(broken={13: broken})
    with pytest.raises(DataError, match=r"^image folder/image 13\.png \(row 13\) cannot be decoded: .*: repair it"):
        list(training(images, threads=2))


@pytest.mark.parametrize("error", [DataError("shard.h5: is gone: copy it again"), MemoryError()])
def test_an_error_that_is_none_of_the_image_stays(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def pixels(images: InMemory, row: int) -> NDArray[np.uint8]:
        raise error

    monkeypatch.setattr(InMemory, "pixels", pixels)
    with pytest.raises(type(error)) as raised:
        list(training(InMemory()))
    assert raised.value is error


def test_a_damaged_background_or_mask_is_named() -> None:
    """The image whose background is taken may lie in another batch."""
    images = InMemory(broken={13: b"no image"})
    background = BackgroundSettings(probability=1.0, kinds=("image",))
    views = dataclasses.replace(VIEWS, background=background)

    def mask(row: int) -> NDArray[np.bool_]:
        return np.eye(20 + row % 7, 18 + row % 5, dtype=np.bool_)

    def broken(row: int) -> NDArray[np.bool_]:
        raise ValueError("the mask is no PNG file")

    with pytest.raises(DataError, match=r"^image folder/image 13\.png \(row 13\) cannot be decoded: .*: repair it"):
        list(training(images, views=views, masks=mask))
    with pytest.raises(DataError, match=r"^image .* cannot be decoded: the mask is no PNG file: repair it"):
        list(training(InMemory(), views=views, masks=broken))


def test_an_error_in_a_view_is_not_one_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def crop(*_: object) -> NDArray[np.uint8]:
        raise ZeroDivisionError

    monkeypatch.setattr(crops, "random_resized_crop", crop)
    with pytest.raises(ZeroDivisionError):
        list(training(InMemory()))


def test_a_truncated_image_is_named() -> None:
    whole = InMemory().encoded[13]
    images = InMemory(broken={13: whole[: len(whole) // 2]})
    with pytest.raises(DataError, match=r"^image folder/image 13\.png \(row 13\) cannot be decoded"):
        list(original_batches(images, VIEWS, np.array([13]), 4, threads=1))


def test_leaving_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    batches = training(InMemory(), range(1000), threads=3)
    list(itertools.islice(batches, 2))
    assert threading.active_count() > before
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_only_a_few_batches_are_read_ahead() -> None:
    images = InMemory()
    batches = training(images, range(1000), threads=1)
    next(batches)
    assert len(images.read_rows) <= 3 * 16
    batches.close()  # type: ignore[attr-defined]


def test_evaluation_shows_every_image_once_in_order() -> None:
    images = InMemory()
    found = list(evaluation_batches(images, VIEWS, batch_size=16, threads=2))
    assert [len(batch.rows) for batch in found] == [16, 16, 8]
    assert np.concatenate([batch.rows for batch in found]).tolist() == list(range(40))
    for batch in found:
        for position, row in enumerate(batch.rows):
            assert (batch.images[0][position] == crops.resized(decode(images.encoded[row]), 16)).all()


def test_evaluation_crops_the_middle_where_a_resize_is_set() -> None:
    images, views = InMemory(), ViewSettings(image_size=16, evaluation_resize=18)
    (batch,) = evaluation_batches(images, views, batch_size=64, threads=1)
    expected = crops.center_cropped(decode(images.encoded[7]), 18, 16)
    assert (batch.images[0][7] == expected).all()


def test_the_probes_random_crops_are_a_function_of_seed_epoch_and_image() -> None:
    def cropped(seed: int, epoch: int, batch_size: int) -> NDArray[np.uint8]:
        batches = evaluation_batches(
            InMemory(), VIEWS, batch_size=batch_size, threads=1, seed=seed, random_view_epoch=epoch
        )
        return np.concatenate([batch.images[0] for batch in batches])

    assert (cropped(0, 1, 16) == cropped(0, 1, 40)).all()
    assert not (cropped(0, 1, 16) == cropped(0, 2, 16)).all()
    assert not (cropped(0, 1, 16) == cropped(1, 1, 16)).all()


def test_the_probe_mirrors_half_of_the_images_unless_told_otherwise() -> None:
    images = InMemory(count=400)

    def cropped(views: ViewSettings) -> NDArray[np.uint8]:
        batches = evaluation_batches(images, views, batch_size=40, threads=2, random_view_epoch=3)
        return np.concatenate([batch.images[0] for batch in batches])

    straight, found = cropped(dataclasses.replace(VIEWS, horizontal_flip=False)), cropped(VIEWS)
    mirrored = (found == straight[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored ^ (found == straight).all(axis=(1, 2, 3))).all()
    assert mirrored.mean() == pytest.approx(0.5, abs=0.1)


def test_originals_come_in_the_asked_order() -> None:
    images, rows = InMemory(), np.array([30, 2, 17, 5, 5])
    found = list(original_batches(images, VIEWS, rows, batch_size=2, threads=2))
    assert [batch.rows.tolist() for batch in found] == [[30, 2], [17, 5], [5]]
    assert (found[1].images[0][0] == crops.resized(decode(images.encoded[17]), 16)).all()


def test_a_batch_holds_the_labels_of_its_rows() -> None:
    images = InMemory()
    for batch in training(images):
        assert (batch.labels == images.labels[batch.rows]).all()


def test_an_image_drawn_twice_an_epoch_is_cropped_anew() -> None:
    """With balanced batches: by the step in the epoch's place."""
    found = list(training(InMemory(), range(8), images_per_class=4))
    assert [batch.epoch for batch in found] == [0, 0, 1, 1, 2, 2, 3, 3]
    for batch in found:
        assert batch.view_key == batch.step
        assert (np.bincount(batch.labels[:, 0]) == 4).all()
    one, other = found[:2]  # of one epoch
    twice = set(one.rows) & set(other.rows)
    assert twice
    for row in twice:
        crops_of = [[array[list(batch.rows).index(row)] for array in batch.images] for batch in (one, other)]
        assert any((crops_of[0][view] != crops_of[1][view]).any() for view in (0, 1))
        assert (crops_of[0][2] == crops_of[1][2]).all()
