"""Loader of uint8 batches: threads make views from images in preallocated arrays, a few batches ahead."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fgssl import randomness
from fgssl.data.sampling import balanced_rows_of_step, rows_by_class, rows_of_step, steps_per_epoch
from fgssl.errors import DataError
from fgssl.settings.views import ViewSettings
from fgssl.views import backgrounds, changes, crops, on_cpu

T = TypeVar("T", bound=np.generic)
_AHEAD = 2
"""Number of batches that are read ahead of the consumer."""


class Images(Protocol):
    """Split of a dataset whose images any thread may decode by row."""

    labels: NDArray[np.int64]
    """Classes (N, L), finest level first; L is 0 for unlabeled data."""

    def __len__(self) -> int: ...

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """Return the upright RGB image (H, W, 3) of one row."""

    @property
    def source_ids(self) -> Sequence[str]:
        """Origin of each image, for messages."""


@dataclass(frozen=True)
class RawBatch:
    """Share of a process in one batch, as uint8 arrays on the CPU."""

    step: int
    epoch: int
    view_key: int
    """Key of the views' random numbers: the epoch, or the step if an image can occur twice per epoch."""
    rows: NDArray[np.int64]
    """Dataset rows (n,) of this process's share of the batch."""
    global_rows: NDArray[np.int64]
    """Dataset rows (N,) of the whole batch."""
    labels: NDArray[np.int64]
    """Classes (n, L), finest level first."""
    images: tuple[NDArray[np.uint8], ...]
    """Crops and the resized image, each (n, H, W, C); their sizes may differ."""


Crop = Callable[[NDArray[np.uint8], int, int, NDArray[np.uint8]], object]
"""Function of a decoded image, its position in the batch and the number of the view that fills pixels (H, W, C)."""
Masks = Callable[[int], NDArray[np.bool_]]
"""Function from a row to its mask (H, W), which is true where the object is."""
Job = tuple[RawBatch, Crop]
"""Batch whose images are still empty, and the function that crops them once per array of the batch."""


def training_batches(
    images: Images,
    views: ViewSettings,
    *,
    num_views: int,
    with_original: bool,
    seed: int,
    steps: range,
    global_batch_size: int,
    images_per_class: int | None,
    threads: int,
    share: slice = slice(None),
    pinned: bool = False,
    boxes: NDArray[np.float32] | None = None,
    masks: Masks | None = None,
) -> Iterator[RawBatch]:
    """Yield the `share` of each global batch: a random crop per view, then the resized image if `with_original`.

    Crops, and their colors unless `views.colors_on` is the device, are a function of (seed, epoch, view, dataset row).
    With `images_per_class`, which can draw an image twice per epoch, the step takes the place of the epoch. With
    `boxes` (images, 4), crops lie around the objects as `views.contrastive_crop` states. With `masks`, views have other
    backgrounds as `views.background` states. With `pinned`, images lie in memory from which a GPU copies by itself.
    """
    recipes = views.of_each(num_views)
    sizes = tuple(recipe.image_size for recipe in recipes) + (views.image_size,) * with_original
    by_class = rows_by_class(images.labels[:, 0]) if images_per_class else []

    def job(step: int) -> Job:
        epoch = step // steps_per_epoch(len(images), global_batch_size)
        if images_per_class:
            global_rows = balanced_rows_of_step(step, by_class, images_per_class, global_batch_size, seed)
        else:
            global_rows = rows_of_step(step, len(images), global_batch_size, seed)
        rows = global_rows[share]
        view_key = step if images_per_class else epoch
        numbers = [crops.crop_numbers(seed, "training", view_key, view, rows) for view in range(num_views)]
        places = [_places(boxes, views, seed, view_key, view, rows) for view in range(num_views)]
        pastes = [_pasting(images, masks, views, seed, view_key, view, rows) for view in range(num_views)]
        colors = [
            changes.drawn(recipe, seed, view_key, view, rows) if views.colors_on == "cpu" else None
            for view, recipe in enumerate(recipes)
        ]

        def crop(image: NDArray[np.uint8], position: int, number: int, out: NDArray[np.uint8]) -> None:
            if number == num_views:
                crops.resized(image, views.image_size, out)
                return
            recipe, colored = recipes[number], colors[number]
            image = pastes[number](image, position)
            random, place = numbers[number][position], places[number][position]
            crops.random_resized_crop(image, random, recipe.crop_area, recipe.image_size, out, place)
            if colored is not None:
                on_cpu.change(out, colored, position, recipe)

        empty = _empty(rows, sizes, pinned)
        return RawBatch(step, epoch, view_key, rows, global_rows, images.labels[rows], empty), crop

    return _filled(images, map(job, steps), threads)


def _places(
    boxes: NDArray[np.float32] | None,
    views: ViewSettings,
    seed: int,
    view_key: int,
    view: int,
    rows: NDArray[np.int64],
) -> Sequence[NDArray[np.float64] | None]:
    """Return the place of each crop around its object, or None for each without `boxes`."""
    if boxes is None:
        return [None] * len(rows)
    assert views.contrastive_crop is not None
    places = crops.places_around(boxes[rows], views.contrastive_crop.alpha, seed, view_key, view, rows)
    return list(places)


def _pasting(
    images: Images,
    masks: Masks | None,
    views: ViewSettings,
    seed: int,
    view_key: int,
    view: int,
    rows: NDArray[np.int64],
) -> Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]:
    """Return a function of an image and its position in the batch that gives the image its background in one view."""
    if masks is None:
        return lambda image, position: image
    assert views.background is not None
    found, drawn = masks, backgrounds.drawn(views.background, seed, view_key, view, rows, len(images))

    def paste(image: NDArray[np.uint8], position: int) -> NDArray[np.uint8]:
        kind, row = drawn.kinds[position], int(rows[position])
        if kind is None or not (mask := _readable(images, row, found)).any():
            return image
        shape = mask.shape
        if kind == "gray":
            ground = backgrounds.gray(drawn.grays[position], *shape)
        elif kind == "texture":
            ground = backgrounds.texture(seed, view_key, view, row, *shape)
        else:
            other = int(drawn.others[position])
            empty = backgrounds.without_object(_readable(images, other, images.pixels), _readable(images, other, found))
            ground = crops.covering(empty, *shape)
        return backgrounds.pasted(image, mask, ground)

    return paste


def evaluation_batches(
    images: Images,
    views: ViewSettings,
    *,
    batch_size: int,
    threads: int,
    seed: int = 0,
    random_view_epoch: int | None = None,
) -> Iterator[RawBatch]:
    """Yield every image once, in order: its fixed crop, or a random one and flip of an epoch for a linear probe."""

    def job(step: int) -> Job:
        rows = np.arange(step * batch_size, min((step + 1) * batch_size, len(images)))
        numbers = None
        if random_view_epoch is not None:
            numbers = crops.crop_numbers(seed, "probe", random_view_epoch, 0, rows)
            flips = randomness.uniform(seed, "flip", random_view_epoch, rows=rows, columns=1)[:, 0] < 0.5

        def crop(image: NDArray[np.uint8], position: int, number: int, out: NDArray[np.uint8]) -> None:
            if numbers is None:
                out[...] = crops.evaluation_crop(image, views)
                return
            # The linear protocol of MoCo takes RandomResizedCrop's default area.
            crops.random_resized_crop(image, numbers[position], (0.08, 1.0), views.image_size, out)
            if views.horizontal_flip and flips[position]:
                on_cpu.flip(out)

        return _one_crop_each(images, views, step, rows), crop

    return _filled(images, map(job, range(-(-len(images) // batch_size))), threads)


def original_batches(
    images: Images, views: ViewSettings, rows: NDArray[np.int64], batch_size: int, threads: int
) -> Iterator[RawBatch]:
    """Yield the resized images of `rows`, in their order."""

    def crop(image: NDArray[np.uint8], position: int, number: int, out: NDArray[np.uint8]) -> None:
        crops.resized(image, views.image_size, out)

    chunks = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    jobs = ((_one_crop_each(images, views, step, chunk), crop) for step, chunk in enumerate(chunks))
    return _filled(images, jobs, threads)


def _one_crop_each(images: Images, views: ViewSettings, step: int, rows: NDArray[np.int64]) -> RawBatch:
    return RawBatch(step, 0, 0, rows, rows, images.labels[rows], _empty(rows, (views.image_size,)))


def _empty(rows: NDArray[np.int64], sizes: Iterable[int], pinned: bool = False) -> tuple[NDArray[np.uint8], ...]:
    shapes = [(len(rows), size, size, 3) for size in sizes]
    if not pinned:
        return tuple(np.empty(shape, dtype=np.uint8) for shape in shapes)
    import torch

    # An array keeps its tensor; torch gives the memory to the next batch once no copy reads it.
    return tuple(torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy() for shape in shapes)


def _filled(images: Images, jobs: Iterable[Job], threads: int) -> Iterator[RawBatch]:
    waiting: collections.deque[tuple[RawBatch, list[Future[None]]]] = collections.deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
    try:
        for batch, crop in jobs:
            chunks = np.array_split(np.arange(len(batch.rows)), threads)  # consecutive positions for each thread
            waiting.append((batch, [pool.submit(_fill, images, batch, crop, chunk) for chunk in chunks]))
            if len(waiting) > _AHEAD:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(batch: RawBatch, parts: list[Future[None]]) -> RawBatch:
    for part in parts:
        part.result()
    return batch


def _fill(images: Images, batch: RawBatch, crop: Crop, positions: NDArray[np.int64]) -> None:
    for position in positions.tolist():
        image = _readable(images, int(batch.rows[position]), images.pixels)
        for number, filling in enumerate(batch.images):
            crop(image, position, number, filling[position])


def _readable(images: Images, row: int, read: Callable[[int], NDArray[T]]) -> NDArray[T]:
    """Return what `read` decodes of a row, an image or its mask; raise a `DataError` if it is damaged."""
    try:
        return read(row)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders raise many types for broken files
        raise DataError(
            f"image {images.source_ids[row]} (row {row}) cannot be decoded: {error}: repair it and pack again"
        ) from error
