"""Source `imagenet100`: 100 classes of ImageNet-1k, by default those of Tian et al. (2020, arXiv:1906.05849).

The list of these classes is `imagenet100.txt` of the authors' code (CMC). Other papers chose other classes, so the
hash of the list is part of the packed dataset.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile, levels, samples
from fgssl.data.sources.official import Official, image_names
from fgssl.errors import DataError
from fgssl.settings.declare import NonNegativeInt, settings
from fgssl.store.manifest import listed

_LIST = """
n02869837 n01749939 n02488291 n02107142 n13037406 n02091831 n04517823 n04589890 n03062245 n01773797 n01735189
n07831146 n07753275 n03085013 n04485082 n02105505 n01983481 n02788148 n03530642 n04435653 n02086910 n02859443
n13040303 n03594734 n02085620 n02099849 n01558993 n04493381 n02109047 n04111531 n02877765 n04429376 n02009229
n01978455 n02106550 n01820546 n01692333 n07714571 n02974003 n02114855 n03785016 n03764736 n03775546 n02087046
n07836838 n04099969 n04592741 n03891251 n02701002 n03379051 n02259212 n07715103 n03947888 n04026417 n02326432
n03637318 n01980166 n02113799 n02086240 n03903868 n02483362 n04127249 n02089973 n03017168 n02093428 n02804414
n02396427 n04418357 n02172182 n01729322 n02113978 n03787032 n02089867 n02119022 n03777754 n04238763 n02231487
n03032252 n02138441 n02104029 n03837869 n03494278 n04136333 n03794056 n03492542 n02018207 n04067472 n03930630
n03584829 n02123045 n04229816 n02100583 n03642806 n04336792 n03259280 n02116738 n02108089 n03424325 n01855672
n02090622
"""
CLASSES = tuple(_LIST.split())
"""WordNet identifiers of the classes of Tian et al."""
OFFICIAL = Official("ImageNet-100", {"train": 126_689, "test": 5_000}, {"class": 100})
ANSWERS = "LOC_val_solution.csv"
"""Table of the classes of the validation images, in Kaggle's archive."""


@settings
class ImageNet100Settings:
    """Options of `fgssl pack imagenet100`."""

    classes: Path | None = None
    """File with the identifiers of other classes, such as n02869837, separated by white space."""
    accept_counts: bool = False
    """Whether other numbers of images than expected are packed. With `classes`, no numbers are expected."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: ImageNet100Settings) -> SourceDataset:
    """List the images of the classes below `root`; raise a `DataError` with all faults."""
    classes = sorted(CLASSES if options.classes is None else _listed_classes(options.classes))
    base = OFFICIAL.folder(root, "train", ["ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "imagenet100"])
    faults: list[str] = []
    splits = {"train": _class_folders(base, "train", classes, faults), "test": _validation(base, classes, faults)}
    OFFICIAL.raise_faults(faults)
    named = levels(["class"], splits)
    dataset = SourceDataset(
        name="imagenet100",
        source="imagenet100",
        arguments={"seed": options.seed, "classes_sha256": hashlib.sha256("\n".join(classes).encode()).hexdigest()},
        levels=named,
        splits={split: samples(files, named) for split, files in splits.items()},
        seed=options.seed,
    )
    return dataset if options.classes else OFFICIAL.checked(dataset, options.accept_counts)


def _listed_classes(path: Path) -> set[str]:
    try:
        classes = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"classes: {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    faults = [f"{path}: {name!r} is not of the form n02869837" for name in classes if not re.fullmatch(r"n\d{8}", name)]
    faults += [f"{path}: {name} is there twice" for name, times in sorted(Counter(classes).items()) if times > 1]
    if faults or not classes:
        raise DataError(listed(faults, "fault in the list", "faults in the list") if faults else f"{path}: is empty")
    return set(classes)


def _class_folders(base: Path, split: str, classes: Sequence[str], faults: list[str]) -> list[LabeledFile]:
    files = []
    for name in classes:
        images = sorted(image_names(base / split / name))
        if not images:
            faults.append(f"{base / split / name}: is missing, or holds no images")
        files += [LabeledFile(base / split / name / image, f"{split}/{name}/{image}", (name,)) for image in images]
    return files


def _validation(base: Path, classes: Sequence[str], faults: list[str]) -> list[LabeledFile]:
    """Return the images of `val`, in class folders or flat as the official archive has them."""
    flat = sorted(path for path in (base / "val").glob("ILSVRC2012_val_*.JPEG"))
    if not flat:
        return _class_folders(base, "val", classes, faults)
    answers = next(
        (folder / ANSWERS for folder in (base, *base.absolute().parents[:3]) if (folder / ANSWERS).is_file()), None
    )
    if answers is None:
        faults.append(
            f"{base / 'val'}: holds images without class folders, and {base / ANSWERS} is missing: put Kaggle's file "
            "there, or move the images into folders val/n01440764 and so on"
        )
        return []
    try:
        with answers.open(newline="", encoding="utf-8-sig") as file:
            class_of = {row[0]: row[1].split()[0] for row in csv.reader(file) if len(row) == 2 and row[1].split()}
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{answers}: cannot be read: {getattr(error, 'strerror', None) or error}")
        return []
    faults += [f"{path}: has no row in {answers}" for path in flat if path.stem not in class_of]
    return [
        LabeledFile(path, f"val/{class_of[path.stem]}/{path.name}", (class_of[path.stem],))
        for path in flat
        if class_of.get(path.stem) in set(classes)
    ]


SOURCE = Source(
    name="imagenet100",
    summary="100 classes of ImageNet-1k (those of Tian et al. 2020, or others by a list)",
    settings=ImageNet100Settings,
    levels=("class",),
    how_to_get=f"""\
IMAGES is ImageNet-1k (ILSVRC 2012), from https://image-net.org/download.php or Kaggle's competition
imagenet-object-localization-challenge. Both have an account and terms: for non-commercial research only; cite
Russakovsky et al. 2015. It may hold all 1,000 classes, or just the 100:

    IMAGES/train/n02869837/*.JPEG    IMAGES/val/n02869837/*.JPEG

    mkdir -p IMAGES/train && tar -xf ILSVRC2012_img_train.tar -C IMAGES/train
    for f in IMAGES/train/*.tar; do mkdir "${{f%.tar}}" && tar -xf "$f" -C "${{f%.tar}}" && rm "$f"; done
    mkdir -p IMAGES/val && tar -xf ILSVRC2012_img_val.tar -C IMAGES/val

Images that lie in val without folders need Kaggle's {ANSWERS} in IMAGES. The folder of Kaggle's archive,
which holds ILSVRC, will do as well. The validation images are the test split. Other papers use other lists of 100
classes: give classes=FILE for another one.""",
    read=read,
)
