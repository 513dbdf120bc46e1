"""Loaders that `benchmarks.loaders` compares: each writes its own format once, and then yields uint8 batches for ever.

Every peer is used as its documentation shows: torchvision's transforms on PIL images in as many workers as there are
cores, or the loader's own fused operations where it has them. None is a dependency; a peer that is not installed, or
that cannot make the views, is left out with the reason.
"""

import importlib
import io
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

View = Literal["crop", "moco"]
"""`crop` is one random resized crop, `moco` are two views of MoCo v2 with colors, blur and flip."""
Batches = Iterator[tuple[NDArray[np.uint8], ...]]
"""Endless batches of views, (B, H, W, 3) or (B, 3, H, W) each."""

SIZE, BATCH, AREA = 224, 128, (0.2, 1.0)


@dataclass(frozen=True)
class Peer:
    """Loader of one library."""

    package: str
    """Module whose absence leaves the peer out."""
    prepare: Callable[[Path, Path], None]
    """Function that writes the images (folder of train/CLASS/*.jpg) into a new folder in the peer's format."""
    batches: Callable[[Path, Path, View, int], Batches]
    """Function from images, the peer's folder, the views and the number of cores to batches."""
    views: tuple[View, ...] = ("crop", "moco")


def files(images: Path) -> list[tuple[Path, int]]:
    """Return the images with the number of their class folder, in a fixed random order."""
    classes = sorted(path for path in (images / "train").iterdir() if path.is_dir())
    found = [(file, label) for label, folder in enumerate(classes) for file in sorted(folder.iterdir())]
    random.Random(0).shuffle(found)
    return found


def _transform(view: View) -> Callable[[Any], Any]:
    """Return torchvision's transform of a PIL image into one uint8 tensor, or two for `moco`."""
    from torchvision import transforms as T

    crop = T.RandomResizedCrop(SIZE, scale=AREA)
    if view == "crop":
        return T.Compose([crop, T.PILToTensor()])
    jitter = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
    blur = T.RandomApply([_blurred], p=0.5)
    one = T.Compose([crop, jitter, T.RandomGrayscale(0.2), blur, T.RandomHorizontalFlip(), T.PILToTensor()])
    return _Twice(one)


def _blurred(image: Any) -> Any:
    """Return the PIL image blurred as MoCo v2 blurs it."""
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class _Twice:
    """Transform that gives two views of an image; a class, so that worker processes can be started with it."""

    def __init__(self, one: Callable[[Any], Any]) -> None:
        self.one = one

    def __call__(self, image: Any) -> tuple[Any, Any]:
        return self.one(image), self.one(image)


def _opened(encoded: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(encoded)).convert("RGB")


def _arrays(batch: Any) -> tuple[NDArray[np.uint8], ...]:
    return tuple(view.numpy() for view in (batch if isinstance(batch, list | tuple) else [batch]))


def _endless(epoch: Callable[[], Any]) -> Batches:
    """Yield the batches of one epoch after the other."""
    return (_arrays(batch) for _ in itertools.count() for batch in epoch())


def _nothing(images: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)


# ------------------------------------------------------------------------------------------------- fgssl


def _pack(images: Path, folder: Path) -> None:
    import subprocess
    import sys

    packed = [sys.executable, "-m", "fgssl", "pack", "folder", str(images), str(folder / "packed"), "name=loaders"]
    subprocess.run(packed, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _recipe(view: View) -> Any:
    from fgssl.settings.views import ViewSettings

    views = ViewSettings(image_size=SIZE, crop_area=AREA)
    if view == "moco":
        return views
    return replace(views, jitter_probability=0.0, gray_probability=0.0, blur_probability=0.0, horizontal_flip=False)


def _bare_loop(images: Path, folder: Path, view: View, cores: int) -> Batches:
    """Yield what the loader of fgssl makes by the same calls in one thread, with nothing around them."""
    from fgssl.data.shards import ShardedSplit
    from fgssl.views import changes, crops, on_cpu

    split, recipe = ShardedSplit(folder / "packed", "train"), _recipe(view)
    for epoch in itertools.count():
        order = np.random.default_rng(epoch).permutation(len(split))
        for rows in np.array_split(order[: len(split) // BATCH * BATCH], len(split) // BATCH):
            batch = tuple(np.empty((BATCH, SIZE, SIZE, 3), dtype=np.uint8) for _ in range(1 if view == "crop" else 2))
            numbers = [crops.crop_numbers(0, "training", epoch, number, rows) for number in range(len(batch))]
            colors = [changes.drawn(recipe, 0, epoch, number, rows) for number in range(len(batch))]
            for position, row in enumerate(rows.tolist()):
                image = split.pixels(row)
                for out, cut_by, colored in zip(batch, numbers, colors, strict=True):
                    crops.random_resized_crop(image, cut_by[position], AREA, SIZE, out[position])
                    on_cpu.change(out[position], colored, position, recipe)
            yield batch


def _fgssl(images: Path, folder: Path, view: View, cores: int) -> Batches:
    from fgssl.data.loader import training_batches
    from fgssl.data.shards import ShardedSplit

    batches = training_batches(
        ShardedSplit(folder / "packed", "train"),
        _recipe(view),
        num_views=1 if view == "crop" else 2,
        with_original=False,
        seed=0,
        steps=range(1_000_000),
        global_batch_size=BATCH,
        images_per_class=None,
        threads=cores,
    )
    return (batch.images for batch in batches)


# ------------------------------------------------------------------------------------------------- peers


def _loader(dataset: Any, cores: int, **options: Any) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, BATCH, num_workers=cores, drop_last=True, persistent_workers=True, **options)


def _first(sample: Any) -> Any:
    return sample[0]


def _image_folder(images: Path, folder: Path, view: View, cores: int) -> Batches:
    from torchvision.datasets import ImageFolder

    loader = _loader(_Images(ImageFolder(str(images / "train"), _transform(view))), cores, shuffle=True)
    return _endless(lambda: loader)


class _Images:
    """Dataset without the labels of another."""

    def __init__(self, dataset: Any, transform: Callable[[Any], Any] = _first) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        return self.transform(self.dataset[row])


SAMPLES_PER_SHARD = 200
"""Images per shard of WebDataset; workers share shards, so there must be at least one for each."""


def _write_tar(images: Path, folder: Path) -> None:
    webdataset = importlib.import_module("webdataset")
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=SAMPLES_PER_SHARD, verbose=0) as writer:
        for number, (file, label) in enumerate(files(images)):
            writer.write({"__key__": f"{number:08d}", "jpg": file.read_bytes(), "cls": label})


def _webdataset(images: Path, folder: Path, view: View, cores: int) -> Batches:
    webdataset = importlib.import_module("webdataset")
    shards = sorted(map(str, folder.glob("*.tar")))
    opened = webdataset.WebDataset(shards, resampled=True, shardshuffle=False)
    dataset = opened.shuffle(1000).decode("pil").to_tuple("jpg").map_tuple(_transform(view)).map(_first)
    return _endless(lambda: _loader(dataset, cores))


def _write_mds(images: Path, folder: Path) -> None:
    streaming = importlib.import_module("streaming")
    with streaming.MDSWriter(out=str(folder), columns={"jpg": "bytes", "label": "int"}) as writer:
        for file, label in files(images):
            writer.write({"jpg": file.read_bytes(), "label": label})


class _Encoded:
    """Transform of a sample with an encoded image under `jpg`."""

    def __init__(self, view: View) -> None:
        self.transform = _transform(view)

    def __call__(self, sample: Any) -> Any:
        return self.transform(_opened(sample["jpg"]))


def _mosaic(images: Path, folder: Path, view: View, cores: int) -> Batches:
    streaming = importlib.import_module("streaming")
    importlib.import_module("streaming.base.util").clean_stale_shared_memory()
    transform, base = _Encoded(view), streaming.StreamingDataset
    changed = {"__getitem__": lambda self, row: transform(base.__getitem__(self, row))}
    dataset = type("Transformed", (base,), changed)(local=str(folder), shuffle=True, batch_size=BATCH)
    loader = _loader(dataset, cores)
    return _endless(lambda: loader)


def _as_sample(item: tuple[Path, int]) -> dict[str, Any]:
    return {"jpg": item[0].read_bytes(), "label": item[1]}


def _write_litdata(images: Path, folder: Path) -> None:
    litdata = importlib.import_module("litdata")
    litdata.optimize(_as_sample, files(images), str(folder), chunk_bytes="8MB", num_workers=1)


def _litdata(images: Path, folder: Path, view: View, cores: int) -> Batches:
    litdata = importlib.import_module("litdata")
    transform = _Encoded(view)
    dataset = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=True, transform=transform)
    loader = litdata.StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=cores, drop_last=True, persistent_workers=True
    )
    return _endless(lambda: loader)


def _write_ffcv(images: Path, folder: Path) -> None:
    writer = importlib.import_module("ffcv.writer")
    fields = importlib.import_module("ffcv.fields")
    folder.mkdir()
    columns = {"image": fields.RGBImageField(write_mode="jpg", jpeg_quality=90), "label": fields.IntField()}
    from torchvision.datasets import ImageFolder

    made = writer.DatasetWriter(str(folder / "images.beton"), columns, num_workers=1)
    made.from_indexed_dataset(ImageFolder(str(images / "train")))


def _ffcv(images: Path, folder: Path, view: View, cores: int) -> Batches:
    ffcv = importlib.import_module("ffcv.loader")
    decoders = importlib.import_module("ffcv.fields.rgb_image")
    transforms = importlib.import_module("ffcv.transforms")
    crop = decoders.RandomResizedCropRGBImageDecoder((SIZE, SIZE), scale=AREA)
    loader = ffcv.Loader(
        str(folder / "images.beton"),
        batch_size=BATCH,
        num_workers=cores,
        order=ffcv.OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        pipelines={"image": [crop, transforms.ToTensor()], "label": None},
    )
    return (_arrays(batch[:1]) for _ in itertools.count() for batch in loader)


def _spdl(images: Path, folder: Path, view: View, cores: int) -> Batches:
    io_, pipeline = importlib.import_module("spdl.io"), importlib.import_module("spdl.pipeline")
    paths = [str(file) for file, _ in files(images)]
    io_.load_image(paths[0])  # raises if there is no FFmpeg; the pipeline would drop image after image
    transform = _transform(view)

    def source() -> Iterator[list[str]]:
        numbers = random.Random(0)
        for _ in itertools.count():
            numbers.shuffle(paths)
            yield from (paths[start : start + BATCH] for start in range(0, len(paths) - BATCH + 1, BATCH))

    def cropped(path: str) -> NDArray[np.uint8]:
        cut = io_.get_video_filter_desc(filter_desc=f"{_crop_filter()},format=pix_fmts=rgb24")
        return np.array(io_.to_numpy(io_.load_image(path, filter_desc=cut)))

    def viewed(path: str) -> Any:
        from PIL import Image

        return transform(Image.fromarray(io_.to_numpy(io_.load_image(path))))

    def collated(samples: list[Any]) -> tuple[NDArray[np.uint8], ...]:
        if view == "crop":
            return (np.stack(samples),)
        return tuple(np.stack(views) for views in zip(*samples, strict=True))

    builder = pipeline.PipelineBuilder().add_source(source()).disaggregate()
    builder = builder.pipe(cropped if view == "crop" else viewed, concurrency=cores)
    built = builder.aggregate(BATCH).pipe(collated).add_sink(2).build(num_threads=cores)

    def drawn() -> Batches:
        with built.auto_stop():
            yield from built.get_iterator()

    return drawn()


def _crop_filter() -> str:
    """Return ffmpeg's filter of one random resized crop, whose size follows from that of the image."""
    area, ratio = random.uniform(*AREA), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = f"min(iw\\,sqrt({area * ratio:.6f}*iw*ih))", f"min(ih\\,sqrt({area / ratio:.6f}*iw*ih))"
    left, top = f"{random.random():.6f}*(iw-ow)", f"{random.random():.6f}*(ih-oh)"
    return f"crop=w={width}:h={height}:x={left}:y={top},scale={SIZE}:{SIZE}:flags=bilinear"


PEERS = {
    "fgssl": Peer("fgssl", _pack, _fgssl),
    "bare loop (one thread)": Peer("fgssl", _pack, _bare_loop),
    "ImageFolder + torchvision": Peer("torchvision", _nothing, _image_folder),
    "WebDataset": Peer("webdataset", _write_tar, _webdataset),
    "MosaicML Streaming": Peer("streaming", _write_mds, _mosaic),
    "litdata": Peer("litdata", _write_litdata, _litdata),
    "FFCV": Peer("ffcv", _write_ffcv, _ffcv, views=("crop",)),
    "SPDL": Peer("spdl", _nothing, _spdl),
}
"""Loaders by the name in the table. FFCV has no color jitter and blur, so it makes crops only."""
