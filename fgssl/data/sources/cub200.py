"""Source `cub200`: Caltech-UCSD Birds-200-2011 (Wah et al. 2011), or a subset of it in the same layout.

CUB_200_2011/images.txt                 ID PATH, with paths below images/
CUB_200_2011/classes.txt                CLASS NAME
CUB_200_2011/image_class_labels.txt     ID CLASS
CUB_200_2011/train_test_split.txt       ID 1 (train) or ID 0 (test)
CUB_200_2011/families.csv               class,family: optional, not part of the archive
"""

from pathlib import Path

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.cub200_taxonomy import FAMILY_OF, ORDER_OF
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official, image_names, unlisted
from fgssl.data.sources.tables import Row, read_csv, read_words
from fgssl.settings.declare import NonNegativeInt, settings

OFFICIAL = Official(
    "CUB-200-2011",
    images={"train": 5994, "test": 5794},
    classes={"species": 200, "family": len(ORDER_OF), "order": len(set(ORDER_OF.values()))},
)
_SPLIT_OF = {"1": "train", "0": "test"}


@settings
class CUB200Settings:
    """Options of `fgssl pack cub200`."""

    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: CUB200Settings) -> SourceDataset:
    """Read the lists in `root`, the folder CUB_200_2011 or its parent.

    A subset is accepted with a remark, since the lists show that it is whole.

    Raises:
        DataError: Lists are missing or contradict each other, or images are missing; the message has all faults.
    """
    base = OFFICIAL.folder(root, "images.txt", ["CUB_200_2011"])
    faults: list[str] = []
    classes = {row.cells[0]: row.cells[1] for row in read_words(base / "classes.txt", ("class", "name"), faults)}
    family_of = _families(base, list(classes.values()), faults)
    images = {row.cells[0]: row for row in read_words(base / "images.txt", ("image", "path"), faults)}
    class_of = _choices(base / "image_class_labels.txt", "class", images, classes, faults)
    split_of = _choices(base / "train_test_split.txt", "is_training", images, _SPLIT_OF, faults)
    names = image_names(base / "images")
    faults += [
        f"{row.place}: {row.cells[1]} is missing in images" for row in images.values() if row.cells[1] not in names
    ]
    OFFICIAL.raise_faults(faults)
    splits: dict[str, list[LabeledFile]] = {split: [] for split in OFFICIAL.images}
    for image, row in images.items():
        path, species = row.cells[1], class_of[image]
        family = family_of[species]
        file = LabeledFile(base / "images" / path, f"images/{path}", (species, family, ORDER_OF[family]))
        splits[split_of[image]].append(file)
    strangers = [f"images/{name}" for name in sorted(names - {row.cells[1] for row in images.values()})]
    return OFFICIAL.dataset(
        "cub200", splits, options.seed, accept=True, remarks=unlisted(strangers, "images.txt does not list")
    )


def _choices(
    path: Path, column: str, images: dict[str, Row], allowed: dict[str, str], faults: list[str]
) -> dict[str, str]:
    """Return what `allowed` gives for the second column of the file, by image."""
    rows = read_words(path, ("image", column), faults)
    chosen = {}
    for row in rows:
        image, value = row.cells
        if image not in images:
            faults.append(f"{row.place}: image {image} is not in images.txt")
        elif value not in allowed:
            faults.append(f"{row.place}: {column} {value} of image {image} must be one of {_few(allowed)}")
        else:
            chosen[image] = allowed[value]
    lacking = sorted(images.keys() - {row.cells[0] for row in rows}) if rows else []  # otherwise the file is the fault
    faults += [f"{path}: lacks image {image} of images.txt" for image in lacking]
    return chosen


def _few(allowed: dict[str, str]) -> str:
    return " and ".join(allowed) if len(allowed) < 3 else f"the {len(allowed)} in classes.txt"


def _families(base: Path, species: list[str], faults: list[str]) -> dict[str, str]:
    """Return the family of each class, from families.csv if it is there, else from the table in the package."""
    path = base / "families.csv"
    if path.exists():
        rows = read_csv(path, ("class", "family"), faults)
        given = {row.cells[0]: row.cells[1] for row in rows}
        faults += [
            f"{row.place}: family {row.cells[1]} must be one of {', '.join(ORDER_OF)}"
            for row in rows
            if row.cells[1] not in ORDER_OF
        ]
        advice = f"{path} lacks it"
    else:
        given = {name: FAMILY_OF[bird] for name in species if (bird := name.partition(".")[2]) in FAMILY_OF}
        advice = f"it is not one of the 200 species: add {path} with the columns class and family"
    faults += [f"{base / 'classes.txt'}: {name} has no family: {advice}" for name in species if name not in given]
    return {name: given[name] for name in species if name in given}


SOURCE = Source(
    name="cub200",
    summary="Caltech-UCSD Birds-200-2011, or a subset in its layout",
    settings=CUB200Settings,
    levels=("species", "family", "order"),
    how_to_get="""\
Download CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158, which states the terms: the photographs are
for non-commercial research and education. Cite Wah et al. 2011 (Caltech technical report CNS-TR-2011-001). Unpack it:

    tar -xzf CUB_200_2011.tgz -C IMAGES

The archive has 5,994 training and 5,794 test images of 200 species. Families and orders come from a table in this
package (37 families, 13 orders). A file families.csv beside classes.txt, with the columns class and family, takes its
place.

Masks of the birds, for views.background, are in segmentations.tgz (records/w9d68-gec53): unpack it beside the images,
and add masks=IMAGES/segmentations.""",
    read=read,
)
