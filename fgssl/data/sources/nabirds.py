"""Source `nabirds`: NABirds (Van Horn et al. 2015, doi:10.1109/CVPR.2015.7298658).

nabirds/images.txt                 IMAGE PATH, an image is named by a UUID
nabirds/image_class_labels.txt     IMAGE CLASS, the numbers of the 555 labeled classes are not contiguous
nabirds/train_test_split.txt       IMAGE 1 (train) or 0 (test)
nabirds/classes.txt                CLASS NAME, of all nodes of the hierarchy
nabirds/hierarchy.txt              CLASS PARENT, up to 0, which is all birds
"""

from pathlib import Path

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official, image_names, unlisted
from fgssl.data.sources.tables import read_words
from fgssl.settings.declare import NonNegativeInt, settings

OFFICIAL = Official("NABirds", {"train": 23_929, "test": 24_633}, {"category": 555})
_SPLITS = {"1": "train", "0": "test"}


@settings
class NABirdsSettings:
    """Options of `fgssl pack nabirds`."""

    accept_counts: bool = False
    """Whether other numbers of images and categories than the official ones are packed."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: NABirdsSettings) -> SourceDataset:
    """Read the lists in `root` or in nabirds below it; raise a `DataError` with all their faults."""
    base = OFFICIAL.folder(root, "image_class_labels.txt", ["nabirds"])
    faults: list[str] = []
    pairs = {name: _pairs(base / f"{name}.txt", faults) for name in ("image_class_labels", "train_test_split")}
    names, parents = _pairs(base / "classes.txt", faults), _pairs(base / "hierarchy.txt", faults)
    classes = {number: _classes(number, names, parents) for number in names}
    there = image_names(base / "images")
    splits: dict[str, list[LabeledFile]] = {"train": [], "test": []}
    for row in read_words(base / "images.txt", ("image", "path"), faults):
        image, path = row.cells
        label, split = pairs["image_class_labels"].get(image), pairs["train_test_split"].get(image)
        if path not in there:
            faults.append(f"{row.place}: {path} is missing in {base / 'images'}")
        elif label is None or split is None:
            faults.append(f"{row.place}: {image} is not in image_class_labels.txt and train_test_split.txt")
        elif label not in classes or split not in _SPLITS:
            faults.append(f"{row.place}: {image} has class {label} and split {split}; classes.txt lists the classes")
        else:
            splits[_SPLITS[split]].append(LabeledFile(base / "images" / path, f"images/{path}", classes[label]))
    OFFICIAL.raise_faults(faults)
    listed = {file.source_id.removeprefix("images/") for files in splits.values() for file in files}
    return OFFICIAL.dataset(
        "nabirds",
        splits,
        options.seed,
        accept=options.accept_counts,
        level_names=SOURCE.levels,
        remarks=unlisted(sorted(there - listed), "images.txt does not list"),
    )


def _pairs(path: Path, faults: list[str]) -> dict[str, str]:
    rows = read_words(path, ("number", "value"), faults)
    return {key: value for key, value in (row.cells for row in rows)}


def _classes(number: str, names: dict[str, str], parents: dict[str, str]) -> tuple[str, ...]:
    """Return the names of a category, its species, its family and its order.

    A category such as "Mallard (male)" lies below its species. One that is a species as a whole lies below its family.
    """
    nodes = [number]
    while (parent := parents.get(nodes[-1])) in names and parent != "0" and parent not in nodes:
        nodes.append(parent)
    order, family, species = nodes[-1], nodes[max(-2, -len(nodes))], nodes[max(-3, -len(nodes))]
    return tuple(names[node] for node in (number, species, family, order))


SOURCE = Source(
    name="nabirds",
    summary="the birds of North America, 555 categories (of sex, age and plumage) of some 400 species",
    settings=NABirdsSettings,
    levels=("category", "species", "family", "order"),
    how_to_get="""\
The archive is at https://dl.allaboutbirds.org/nabirds, after agreeing to its terms: for non-commercial research only,
and the images must not be passed on. Cite Van Horn et al. 2015 (doi:10.1109/CVPR.2015.7298658).

    mkdir -p IMAGES && tar -xzf nabirds.tar.gz -C IMAGES    # makes IMAGES/nabirds

The levels above the category are those of its hierarchy.txt.""",
    read=read,
)
