"""Source `isic2017`: lesion classification (part 3) of the ISIC 2017 challenge (Codella et al. 2018, arXiv:1710.05006).

    ISIC-2017_Training_Data/ISIC_NNNNNNN.jpg           likewise Validation and Test_v2
    ISIC-2017_Training_Part3_GroundTruth.csv           image_id,melanoma,seborrheic_keratosis

The masks beside the images, ISIC_NNNNNNN_superpixels.png, are skipped.
"""

from pathlib import Path
from typing import Literal

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official, image_names, unlisted
from fgssl.data.sources.tables import read_csv
from fgssl.settings.declare import NonNegativeInt, settings

DIAGNOSES = {("0", "0"): "nevus", ("1", "0"): "melanoma", ("0", "1"): "seborrheic_keratosis"}
"""Diagnosis by the columns melanoma and seborrheic_keratosis."""
IMAGES = {"Training": 2000, "Validation": 150, "Test_v2": 600}
"""Number of images by part of the challenge."""
_TEST = {"official": "Test_v2", "validation": "Validation"}


@settings
class ISIC2017Settings:
    """Options of `fgssl pack isic2017`."""

    split: Literal["official", "validation"] = "official"
    """Choice of the test split. With official, it is the challenge's test set (600 images), as in Synthesized Pairs.
    With validation, it is the validation set (150), to choose settings by. The other set is left out."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""
    accept_counts: bool = False
    """Whether to pack other numbers of images or classes than those of the official archives."""


def read(root: Path, options: ISIC2017Settings) -> SourceDataset:
    """Read the ground truth in `root`, or in the folder ISIC2017 or ISIC-2017 of it.

    Raises:
        DataError: Ground truth is missing or damaged, images are missing, or the counts are not the official ones.
    """
    parts = {"train": "Training", "test": _TEST[options.split]}
    official = Official("ISIC 2017", {split: IMAGES[part] for split, part in parts.items()}, {"diagnosis": 3})
    base = official.folder(root, [_folder(part) for part in IMAGES], ["ISIC2017", "ISIC-2017"])
    faults: list[str] = []
    strangers: list[str] = []
    splits = {split: _part(base, part, faults, strangers) for split, part in parts.items()}
    official.raise_faults(faults)
    return official.dataset(
        "isic2017",
        splits,
        options.seed,
        accept=options.accept_counts,
        arguments={"split": options.split},
        remarks=unlisted(strangers, "the ground truth does not list"),
    )


def _folder(part: str) -> str:
    return f"ISIC-2017_{part}_Data"


def _part(base: Path, part: str, faults: list[str], strangers: list[str]) -> list[LabeledFile]:
    """Return the images of one part with their diagnoses; append images without a row to `strangers`."""
    name = f"ISIC-2017_{part}_Part3_GroundTruth"
    places = [base / f"{name}.csv", base / name / f"{name}.csv", base / _folder(part) / f"{name}.csv"]
    table = next((place for place in places if place.exists()), places[0])
    rows = read_csv(table, ("image_id", "melanoma", "seborrheic_keratosis"), faults)
    images = {
        Path(image).stem: f"{_folder(part)}/{image}"
        for image in sorted(image_names(base / _folder(part)))
        if not image.endswith("_superpixels.png")
    }
    files = []
    for row in rows:
        image, *columns = row.cells
        diagnosis = DIAGNOSES.get((columns[0].removesuffix(".0"), columns[1].removesuffix(".0")))
        if diagnosis is None:
            faults.append(
                f"{row.place}: melanoma {columns[0]} and seborrheic_keratosis {columns[1]} of {image} must be 0 or 1, "
                "and not both 1"
            )
        elif image not in images:
            faults.append(f"{row.place}: {image}.jpg is missing in {base / _folder(part)}")
        else:
            files.append(LabeledFile(base / images[image], images[image], (diagnosis,)))
    if rows:
        strangers += [images[stem] for stem in sorted(images.keys() - {row.cells[0] for row in rows})]
    return files


SOURCE = Source(
    name="isic2017",
    summary="the lesion classification of the ISIC 2017 challenge",
    settings=ISIC2017Settings,
    levels=("diagnosis",),
    how_to_get="""\
Download the images and the ground truth of part 3 from https://challenge.isic-archive.com/data/#2017, which states the
license; cite Codella et al. 2018 (arXiv:1710.05006). Unpack the images, and put the ground truth beside:

    unzip ISIC-2017_Training_Data.zip -d IMAGES
    unzip ISIC-2017_Validation_Data.zip -d IMAGES
    unzip ISIC-2017_Test_v2_Data.zip -d IMAGES
    cp ISIC-2017_*_Part3_GroundTruth.csv IMAGES

The validation set is needed for split=validation only. There are 2,000 training, 150 validation and 600 test images of
3 diagnoses; the photographs are up to 6,700 pixels wide.""",
    read=read,
)
