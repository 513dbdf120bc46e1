"""Source `pets`: Oxford-IIIT Pet (Parkhi et al. 2012, doi:10.1109/CVPR.2012.6248092).

images/NAME.jpg and annotations/{trainval,test}.txt: NAME CLASS SPECIES BREED, where NAME is BREED_NUMBER
"""

from pathlib import Path

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official, image_names, unlisted
from fgssl.data.sources.tables import read_words
from fgssl.settings.declare import NonNegativeInt, settings

OFFICIAL = Official("Oxford Pets", {"train": 3680, "test": 3669}, {"breed": 37, "species": 2})
_SPECIES = {"1": "cat", "2": "dog"}


@settings
class PetsSettings:
    """Options of `fgssl pack pets`."""

    accept_counts: bool = False
    """Whether other numbers of images and breeds than the official ones are packed."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: PetsSettings) -> SourceDataset:
    """Read the lists below `root`; raise a `DataError` with all their faults."""
    base = OFFICIAL.folder(root, "annotations/trainval.txt", ["oxford-iiit-pet"])
    faults: list[str] = []
    there = image_names(base / "images")
    splits: dict[str, list[LabeledFile]] = {}
    for split, name in (("train", "trainval"), ("test", "test")):
        files = splits[split] = []
        for row in read_words(base / "annotations" / f"{name}.txt", ("image", "class", "species", "breed"), faults):
            image, _, species, _ = row.cells
            if f"{image}.jpg" not in there:
                faults.append(f"{row.place}: {image}.jpg is missing in {base / 'images'}")
            elif species not in _SPECIES:
                faults.append(f"{row.place}: species {species} of {image} is not 1 (cat) or 2 (dog)")
            else:
                classes = (image.rpartition("_")[0], _SPECIES[species])
                files.append(LabeledFile(base / "images" / f"{image}.jpg", f"images/{image}.jpg", classes))
    OFFICIAL.raise_faults(faults)
    listed = {file.path.name for files in splits.values() for file in files}
    remarks = unlisted(sorted(there - listed), "the annotations do not list")
    return OFFICIAL.dataset("pets", splits, options.seed, accept=options.accept_counts, remarks=remarks)


SOURCE = Source(
    name="pets",
    summary="Oxford-IIIT Pet, 37 breeds of cats and dogs",
    settings=PetsSettings,
    levels=("breed", "species"),
    how_to_get="""\
The archives are at https://www.robots.ox.ac.uk/~vgg/data/pets/, under CC BY-SA 4.0; cite Parkhi et al. 2012.

    mkdir -p IMAGES && tar -xzf images.tar.gz -C IMAGES && tar -xzf annotations.tar.gz -C IMAGES

The list trainval is the training split.""",
    read=read,
)
