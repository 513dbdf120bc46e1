"""Source `aircraft`: FGVC-Aircraft (Maji et al. 2013, arXiv:1306.5151).

fgvc-aircraft-2013b/data/images/NNNNNNN.jpg
fgvc-aircraft-2013b/data/images_{variant,family,manufacturer}_{train,val,trainval,test}.txt     IMAGE NAME
"""

import io
from dataclasses import replace
from pathlib import Path
from typing import Literal

from fgssl.data.source import Sample, Source, SourceDataset, UnreadableImageError
from fgssl.data.sources.encoded_image import file_sample
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official, image_names
from fgssl.data.sources.tables import read_words
from fgssl.errors import DataError
from fgssl.settings.declare import NonNegativeInt, settings

LEVELS = {"variant": 100, "family": 70, "manufacturer": 30}
"""Number of classes by level, finest first."""
IMAGES = {"train": 3334, "val": 3333, "trainval": 6667, "test": 3333}
"""Number of images by official list."""
BANNER_HEIGHT = 20
"""Height in pixels of the banner at the bottom of every image, which names its photographer."""
_LISTS = {"official": ("trainval", "test"), "validation": ("train", "val")}


@settings
class AircraftSettings:
    """Options of `fgssl pack aircraft`."""

    split: Literal["official", "validation"] = "official"
    """Choice of the official lists. With official, the splits are trainval (6,667 images) and test (3,333). With
    validation, they are train (3,334) and val (3,333), to choose settings by, and the test images are left out."""
    banner: Literal["crop", "keep"] = "crop"
    """Treatment of the 20 pixels at the bottom of every image, which name its photographer. They are cut off by
    default, since variants may be recognized by them."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""
    accept_counts: bool = False
    """Whether to pack other numbers of images or classes than those of the official archive."""


def read(root: Path, options: AircraftSettings) -> SourceDataset:
    """Read the lists in `root`, the folder data of the archive or one of its two parents.

    Raises:
        DataError: Lists are missing or contradict each other, images are missing, or the counts are not the official
            ones.
    """
    lists = dict(zip(("train", "test"), _LISTS[options.split], strict=True))
    official = Official("FGVC-Aircraft", {split: IMAGES[name] for split, name in lists.items()}, LEVELS)
    base = official.folder(root, "images_variant_test.txt", ["data", "fgvc-aircraft-2013b/data"])
    faults: list[str] = []
    names = image_names(base / "images")
    splits = {split: _listed(base, name, names, faults) for split, name in lists.items()}
    official.raise_faults(faults)
    arguments = {"split": options.split, "banner": options.banner}
    return official.dataset(
        "aircraft",
        splits,
        options.seed,
        accept=options.accept_counts,
        arguments=arguments,
        read=_cropped if options.banner == "crop" else None,
    )


def _listed(base: Path, name: str, images: set[str], faults: list[str]) -> list[LabeledFile]:
    """Return the images of an official list, with their classes at all levels."""
    paths = [base / f"images_{level}_{name}.txt" for level in LEVELS]
    finest, *coarser = [{row.cells[0]: row for row in read_words(path, ("image", "name"), faults)} for path in paths]
    for path, rows in zip(paths[1:], coarser, strict=True):
        faults += [
            f"{row.place}: image {image} is not in {paths[0].name}"
            for image, row in rows.items()
            if image not in finest
        ]
        faults += [f"{path}: lacks image {image} of {paths[0].name}" for image in finest if rows and image not in rows]
    faults += [
        f"{row.place}: images/{image}.jpg is missing" for image, row in finest.items() if f"{image}.jpg" not in images
    ]
    return [
        LabeledFile(
            base / "images" / f"{image}.jpg",
            f"images/{image}.jpg",
            (row.cells[1], *(rows[image].cells[1] for rows in coarser)),
        )
        for image, row in finest.items()
        if all(image in rows for rows in coarser)
    ]


def _cropped(file: LabeledFile, labels: tuple[int, ...]) -> Sample:
    """Return the sample without the banner.

    The JPEG is encoded anew with its own tables. Since cutting at the bottom leaves its grid of blocks, photographs
    change by less than one of 256 steps on average. A damaged one is cut as far as it can be read.
    """
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile, get_sampling

    from fgssl.data.decoding import decode

    sample = file_sample(file.path, labels, file.source_id)
    buffer, damage = io.BytesIO(), ""
    try:
        with Image.open(io.BytesIO(sample.image)) as image:
            if not isinstance(image, JpegImageFile) or image.height <= BANNER_HEIGHT:
                raise ValueError(f"must be a JPEG that is higher than the {BANNER_HEIGHT} pixels of the banner")
            whole: Image.Image = image
            try:
                decode(sample.image, strict=True)
            except ValueError as error:
                damage = str(error)
                whole = Image.fromarray(decode(sample.image))
            upper = whole.crop((0, 0, whole.width, whole.height - BANNER_HEIGHT))
            upper.save(buffer, "JPEG", qtables=image.quantization, subsampling=get_sampling(image))
    except (MemoryError, DataError):
        raise
    except Exception as error:  # Pillow raises many types for damaged files
        raise UnreadableImageError(f"{file.source_id}: {error}") from error
    return replace(sample, image=buffer.getvalue(), damage=damage)


SOURCE = Source(
    name="aircraft",
    summary="FGVC-Aircraft, from the official archive",
    settings=AircraftSettings,
    levels=tuple(LEVELS),
    how_to_get="""\
Download fgvc-aircraft-2013b.tar.gz (2.75 GB) from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/. Its authors
make the images available for non-commercial research only, by agreement with the photographers; cite Maji et al. 2013
(arXiv:1306.5151). Unpack it:

    tar -xzf fgvc-aircraft-2013b.tar.gz -C IMAGES

The archive has 3,334 training, 3,333 validation and 3,333 test images of 100 variants in 70 families by 30
manufacturers.""",
    read=read,
)
