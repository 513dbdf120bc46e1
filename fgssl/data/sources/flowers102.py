"""Source `flowers102`: Oxford 102 Flowers (Nilsback and Zisserman 2008, doi:10.1109/ICVGIP.2008.47).

jpg/image_NNNNN.jpg, imagelabels.mat (`labels`, from 1) and setid.mat (`trnid`, `valid`, `tstid`, from 1)
"""

from pathlib import Path
from typing import Literal

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official, image_names
from fgssl.data.sources.tables import read_matlab
from fgssl.settings.declare import NonNegativeInt, settings

IMAGES = {"trnid": 1020, "valid": 1020, "tstid": 6149}
"""Number of images by the official set."""
_SETS = {
    "official": (("trnid", "valid"), ("tstid",)),
    "train": (("trnid",), ("tstid",)),
    "validation": (("trnid",), ("valid",)),
}


@settings
class Flowers102Settings:
    """Options of `fgssl pack flowers102`."""

    split: Literal["official", "train", "validation"] = "official"
    """Choice of the official sets. With official, training and validation images (2,040) are the training split and the
    test images (6,149) the test split, as in most papers. With train, the validation images (1,020) are left out. With
    validation, they are the test split, to choose settings by."""
    accept_counts: bool = False
    """Whether other numbers of images and classes than the official ones are packed."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: Flowers102Settings) -> SourceDataset:
    """Read the MATLAB files below `root`; raise a `DataError` with all their faults."""
    sets = dict(zip(("train", "test"), _SETS[options.split], strict=True))
    images = {split: sum(IMAGES[name] for name in names) for split, names in sets.items()}
    official = Official("Oxford 102 Flowers", images, {"class": 102})
    base = official.folder(root, "setid.mat", ["flowers-102"])
    faults: list[str] = []
    there = image_names(base / "jpg")
    labels = read_matlab(base / "imagelabels.mat", "labels", faults).astype(int).tolist()
    splits: dict[str, list[LabeledFile]] = {"train": [], "test": []}
    for split, names in sets.items():
        for number in (
            number for name in names for number in read_matlab(base / "setid.mat", name, faults).astype(int).tolist()
        ):
            image = f"image_{number:05d}.jpg"
            if image not in there:
                faults.append(f"{base / 'jpg' / image}: is missing, but setid.mat lists it")
            elif not 1 <= number <= len(labels):
                faults.append(f"{base / 'imagelabels.mat'}: has no label of {image}")
            else:
                splits[split].append(LabeledFile(base / "jpg" / image, f"jpg/{image}", (str(labels[number - 1]),)))
    official.raise_faults(list(dict.fromkeys(faults)))
    arguments = {"split": options.split}
    return official.dataset("flowers102", splits, options.seed, accept=options.accept_counts, arguments=arguments)


SOURCE = Source(
    name="flowers102",
    summary="Oxford 102 Flowers",
    settings=Flowers102Settings,
    levels=("class",),
    how_to_get="""\
The files are at https://www.robots.ox.ac.uk/~vgg/data/flowers/102/: the images, and under "The image labels" and "The
data splits" imagelabels.mat and setid.mat. The page gives no license; cite Nilsback and Zisserman 2008.

    mkdir -p IMAGES && tar -xzf 102flowers.tgz -C IMAGES    # makes IMAGES/jpg
    cp imagelabels.mat setid.mat IMAGES

Classes are named by their official numbers, 1 to 102.""",
    read=read,
)
