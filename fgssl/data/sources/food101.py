"""Source `food101`: Food-101 (Bossard et al. 2014), whose training labels hold some noise by intention.

food-101/images/CLASS/NNNN.jpg and food-101/meta/{train,test}.txt: CLASS/NNNN
"""

from pathlib import Path

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official, image_names, unlisted
from fgssl.data.sources.tables import read_words
from fgssl.settings.declare import NonNegativeInt, settings

OFFICIAL = Official("Food-101", {"train": 75_750, "test": 25_250}, {"class": 101})


@settings
class Food101Settings:
    """Options of `fgssl pack food101`."""

    accept_counts: bool = False
    """Whether other numbers of images and classes than the official ones are packed."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: Food101Settings) -> SourceDataset:
    """Read the lists below `root`; raise a `DataError` with all their faults."""
    base = OFFICIAL.folder(root, "meta/train.txt", ["food-101"])
    faults: list[str] = []
    there = image_names(base / "images")
    splits: dict[str, list[LabeledFile]] = {}
    for split in OFFICIAL.images:
        files = splits[split] = []
        for row in read_words(base / "meta" / f"{split}.txt", ("image",), faults):
            name = f"{row.cells[0]}.jpg"
            if name not in there:
                faults.append(f"{row.place}: {name} is missing in {base / 'images'}")
            else:
                files.append(LabeledFile(base / "images" / name, f"images/{name}", (name.split("/")[0],)))
    OFFICIAL.raise_faults(faults)
    listed = {file.source_id.removeprefix("images/") for files in splits.values() for file in files}
    remarks = unlisted(sorted(there - listed), "the lists in meta do not name")
    return OFFICIAL.dataset("food101", splits, options.seed, accept=options.accept_counts, remarks=remarks)


SOURCE = Source(
    name="food101",
    summary="Food-101, photographs of 101 dishes",
    settings=Food101Settings,
    levels=("class",),
    how_to_get="""\
The archive (5 GB) is at https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/. The photographs belong to their
authors at foodspotting.com; use beyond research must be agreed with them. Cite Bossard et al. 2014.

    mkdir -p IMAGES && tar -xzf food-101.tar.gz -C IMAGES    # makes IMAGES/food-101""",
    read=read,
)
