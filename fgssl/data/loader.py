"""Rows -> uint8 batches: threads read, decode and crop into preallocated arrays, a few batches ahead."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgssl.data.sampling import balanced_rows_of_step, epoch_of_step, rows_by_class, rows_of_step
from fgssl.errors import DataError
from fgssl.settings.views import ViewSettings
from fgssl.views import crops

_AHEAD = 2
"""Batches read before they are asked for."""


class Images(Protocol):
    """A split of a dataset: encoded images by row, read from any thread."""

    labels: NDArray[np.int64]
    """(N, L), finest level first; L is 0 where there are none."""

    def __len__(self) -> int: ...
    def read(self, row: int) -> bytes: ...
    @property
    def source_ids(self) -> NDArray[np.str_]: ...


Arrays = tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True)
class RawBatch:
    step: int
    epoch: int
    view_key: int
    """Key of the views' random numbers: the epoch, or the step if an image can occur twice an epoch."""
    rows: NDArray[np.int64]
    """(n,) dataset rows of this process's share of the batch."""
    global_rows: NDArray[np.int64]
    """(N,) dataset rows of the whole batch."""
    labels: NDArray[np.int64]
    """(n, L), finest level first."""
    images: Arrays
    """Crops and the resized image, each (n, H, W, C); sizes may differ."""


Crop = Callable[[Image.Image, int, int], NDArray[np.uint8]]
"""(decoded image, position in the batch, number of the crop) -> (H, W, C)"""


@dataclass(frozen=True)
class _Job:
    """One batch to fill: each image is decoded once and cropped once a size."""

    step: int
    epoch: int
    view_key: int
    rows: NDArray[np.int64]
    global_rows: NDArray[np.int64]
    sizes: tuple[int, ...]
    crop: Crop


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
) -> Iterator[RawBatch]:
    """Yield the `share` of each global batch: a random crop a view, then (`with_original`) the resized image.

    `pinned`: images lie where a GPU can fetch them by itself.

    Crops are a function of (seed, epoch, view, dataset row); with `images_per_class`, which can draw an image twice an
    epoch, of the step in the epoch's place.
    """
    recipes = views.of_each(num_views)
    sizes = tuple(recipe.image_size for recipe in recipes) + (views.image_size,) * with_original
    by_class = rows_by_class(images.labels[:, 0]) if images_per_class else []

    def job(step: int) -> _Job:
        epoch = epoch_of_step(step, len(images), global_batch_size)
        if images_per_class:
            global_rows = balanced_rows_of_step(step, by_class, images_per_class, global_batch_size, seed)
        else:
            global_rows = rows_of_step(step, len(images), global_batch_size, seed)
        rows = global_rows[share]
        view_key = step if images_per_class else epoch
        numbers = [crops.crop_numbers(seed, "training", view_key, view, rows) for view in range(num_views)]

        def crop(image: Image.Image, position: int, number: int) -> NDArray[np.uint8]:
            if number == num_views:
                return crops.resized(image, views.image_size)
            recipe = recipes[number]
            return crops.random_resized_crop(image, numbers[number][position], recipe.crop_area, recipe.image_size)

        return _Job(step, epoch, view_key, rows, global_rows, sizes, crop)

    return _filled(images, (job(step) for step in steps), threads, pinned)


def evaluation_batches(
    images: Images,
    views: ViewSettings,
    *,
    batch_size: int,
    threads: int,
    random_crop_seed: int | None = None,
    epoch: int = 0,
) -> Iterator[RawBatch]:
    """Yield all images once, in order; `random_crop_seed` asks for a linear probe's random crops, not the fixed one."""

    def job(step: int) -> _Job:
        rows = np.arange(step * batch_size, min((step + 1) * batch_size, len(images)))
        numbers = None
        if random_crop_seed is not None:
            numbers = crops.crop_numbers(random_crop_seed, "probe", epoch, 0, rows)

        def crop(image: Image.Image, position: int, number: int) -> NDArray[np.uint8]:
            if numbers is not None:
                # RandomResizedCrop's default area, as the linear protocol of MoCo has it
                return crops.random_resized_crop(image, numbers[position], (0.08, 1.0), views.image_size)
            if views.evaluation_resize is not None:
                return crops.center_cropped(image, views.evaluation_resize, views.image_size)
            return crops.resized(image, views.image_size)

        return _Job(step, epoch, epoch, rows, rows, (views.image_size,), crop)

    return _filled(images, (job(step) for step in range(-(-len(images) // batch_size))), threads)


def original_batches(
    images: Images, views: ViewSettings, rows: NDArray[np.int64], batch_size: int, threads: int
) -> Iterator[RawBatch]:
    """Yield the resized images of `rows`, in that order."""

    def crop(image: Image.Image, position: int, number: int) -> NDArray[np.uint8]:
        return crops.resized(image, views.image_size)

    chunks = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    jobs = (_Job(step, 0, 0, chunk, chunk, (views.image_size,), crop) for step, chunk in enumerate(chunks))
    return _filled(images, jobs, threads)


def _filled(images: Images, jobs: Iterable[_Job], threads: int, pinned: bool = False) -> Iterator[RawBatch]:
    waiting: collections.deque[tuple[_Job, Arrays, list[Future[None]]]] = collections.deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
    try:
        for job in jobs:
            out = tuple(_empty((len(job.rows), size, size, 3), pinned) for size in job.sizes)
            chunks = np.array_split(np.arange(len(job.rows)), threads)  # one run of positions a thread
            waiting.append((job, out, [pool.submit(_fill, images, job, out, chunk) for chunk in chunks]))
            if len(waiting) > _AHEAD:
                yield _result(images, *waiting.popleft())
        while waiting:
            yield _result(images, *waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _empty(shape: tuple[int, ...], pinned: bool) -> NDArray[np.uint8]:
    if not pinned:
        return np.empty(shape, dtype=np.uint8)
    import torch

    # The array keeps the tensor; torch gives the memory to the next batch once no copy reads it.
    array: NDArray[np.uint8] = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return array


def _result(images: Images, job: _Job, out: Arrays, parts: list[Future[None]]) -> RawBatch:
    for part in parts:
        part.result()
    return RawBatch(job.step, job.epoch, job.view_key, job.rows, job.global_rows, images.labels[job.rows], out)


def _fill(images: Images, job: _Job, out: Arrays, positions: NDArray[np.int64]) -> None:
    for position in positions:
        row = int(job.rows[position])
        try:
            image = crops.decode(images.read(row))
            for number, filling in enumerate(out):
                filling[position] = job.crop(image, int(position), number)
        except Exception as error:  # Pillow raises many kinds for broken files
            raise DataError(
                f"image {images.source_ids[row]} (row {row}) cannot be decoded: {error}; mend the image and pack again"
            ) from error
