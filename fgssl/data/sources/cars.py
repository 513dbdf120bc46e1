"""Source `cars`: Stanford Cars (Krause et al. 2013), in the layouts of the official archives and of mirrors.

cars_train/, cars_test/, devkit/ and cars_test_annos_withlabels.mat     official; images may lie one folder deeper
car_ims/ and cars_annos.mat                                             official, all images in one folder
train/CLASS/*.jpg and test/CLASS/*.jpg                                  mirrors
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.data.sources.official import Official, image_names, unlisted
from fgssl.data.sources.tables import read_matlab
from fgssl.settings.declare import NonNegativeInt, settings

OFFICIAL = Official("Stanford Cars", images={"train": 8144, "test": 8041}, classes={"model": 196, "make": 49})
TWO_WORDS = ("AM General", "Aston Martin", "Land Rover")
"""Makes of two words; every other make is the first word of the class."""
_DEVKITS = ("devkit", "car_devkit/devkit", ".")
_Splits = dict[str, list[LabeledFile]]


@settings
class CarsSettings:
    """Options of `fgssl pack cars`."""

    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""
    accept_counts: bool = False
    """Whether to pack other numbers of images or classes than those of the official archives."""


def read(root: Path, options: CarsSettings) -> SourceDataset:
    """Read the annotations in `root` or in a folder that archives and mirrors unpack into.

    Raises:
        DataError: Annotations are missing or damaged, images are missing, or the counts are not the official ones.
    """
    marks = ("cars_train", "cars_annos.mat", "train")
    base = OFFICIAL.folder(root, marks, ["stanford_cars", "car_data", "car_data/car_data"])
    faults: list[str] = []
    if (base / "cars_train").is_dir():
        splits = _two_folders(base, faults)
    elif (base / "cars_annos.mat").exists():
        splits = _one_folder(base, faults)
    else:
        splits = {split: _class_folders(base, split, faults) for split in OFFICIAL.images}
    listed = {file.source_id for files in splits.values() for file in files}
    there = {f"{folder}/{name}" for folder in _folders(base) for name in image_names(base / folder)}
    faults += [f"{base / name}: is missing, but annotated" for name in sorted(listed - there)]
    OFFICIAL.raise_faults(faults)
    remarks = unlisted(sorted(there - listed), "the annotations do not list")
    return OFFICIAL.dataset("cars", splits, options.seed, accept=options.accept_counts, remarks=remarks)


def _folders(base: Path) -> list[str]:
    """Return the folders of images in `base`; mirrors nest cars_train/cars_train."""
    return [
        f"{name}/{name}" if (base / name / name).is_dir() else name
        for name in ("cars_train", "cars_test", "car_ims", "train", "test")
        if (base / name).is_dir()
    ]


def _two_folders(base: Path, faults: list[str]) -> _Splits:
    names = _class_names(_found(base, "cars_meta.mat", _DEVKITS), faults)
    train = _found(base, "cars_train_annos.mat", _DEVKITS)
    test = _found(base, "cars_test_annos_withlabels.mat", (".", *_DEVKITS))
    if not test.exists():
        faults.append(
            f"{test}: is missing here and in devkit; the labels of the test images are in this file only, not in "
            "cars_test_annos.mat of the devkit"
        )
    folder_of = {folder.split("/")[0]: folder for folder in _folders(base)}
    splits: _Splits = {}
    for split, path in (("train", train), ("test", test)):
        folder = folder_of.get(f"cars_{split}", f"cars_{split}")
        rows = _annotations(path, ("fname", "class"), faults) if split == "train" or test.exists() else []
        splits[split] = [
            _labeled(base, f"{folder}/{file}", names[number - 1])
            for file, number in rows
            if _is_class(number, names, f"{path}: {file}", faults)
        ]
    return splits


def _one_folder(base: Path, faults: list[str]) -> _Splits:
    path = base / "cars_annos.mat"
    names = _class_names(path, faults)
    splits: _Splits = {split: [] for split in OFFICIAL.images}
    for file, number, test in _annotations(path, ("relative_im_path", "class", "test"), faults):
        if _is_class(number, names, f"{path}: {file}", faults):
            splits["test" if test else "train"].append(_labeled(base, file, names[number - 1]))
    return splits


def _class_folders(base: Path, split: str, faults: list[str]) -> list[LabeledFile]:
    files = []
    for name in sorted(image_names(base / split)):
        folder, _, file = name.partition("/")
        if not file or "/" in file:
            faults.append(f"{base / split / name}: must lie in a class folder, as {split}/CLASS/*.jpg")
        else:
            # A folder cannot have the slash of "Ram C/V Cargo Van Minivan 2012".
            files.append(_labeled(base, f"{split}/{name}", folder.replace("Ram C-V", "Ram C/V")))
    return files


def _labeled(base: Path, path: str, name: str) -> LabeledFile:
    make = next((make for make in TWO_WORDS if name.startswith(f"{make} ")), name.split(" ")[0])
    return LabeledFile(base / path, path, (name, make))


def _found(base: Path, name: str, folders: Sequence[str]) -> Path:
    """Return the file `name` in the first of the folders that has it, or its place in the first folder."""
    places = [base / folder / name for folder in folders]
    return next((place for place in places if place.exists()), places[0])


def _is_class(number: int, names: Sequence[str], where: str, faults: list[str]) -> bool:
    if names and not 1 <= number <= len(names):
        faults.append(f"{where}: class {number} must be one of 1-{len(names)}")
    return 1 <= number <= len(names)


def _class_names(path: Path, faults: list[str]) -> list[str]:
    return [str(name).strip() for name in read_matlab(path, "class_names", faults)]


def _annotations(path: Path, fields: Sequence[str], faults: list[str]) -> list[tuple[Any, ...]]:
    """Return the fields of each annotation: the first as a string, the others as whole numbers."""
    rows = read_matlab(path, "annotations", faults)
    if len(rows) == 0:
        return []
    if lacking := [field for field in fields if field not in (rows.dtype.names or ())]:
        faults.append(f"{path}: the annotations lack {', '.join(lacking)}")
        return []
    return [(str(row[fields[0]]), *(int(row[field]) for field in fields[1:])) for row in rows]


SOURCE = Source(
    name="cars",
    summary="Stanford Cars, from the official archives or from a mirror",
    settings=CarsSettings,
    levels=("model", "make"),
    how_to_get="""\
The original page is gone since 2023, and no license accompanies the images, which were collected from the web for
research; cite Krause et al. 2013 (3D Object Representations for Fine-Grained Categorization). Copies of the official
archives unpack into cars_train, cars_test and devkit:

    tar -xzf cars_train.tgz -C IMAGES
    tar -xzf cars_test.tgz -C IMAGES
    tar -xzf car_devkit.tgz -C IMAGES
    cp cars_test_annos_withlabels.mat IMAGES

The devkit has no labels of the test images: cars_test_annos_withlabels.mat is a file of its own. Mirrors on Kaggle are
read as they unpack: jessicali9530/stanford-cars-dataset (cars_train/cars_train, without the devkit and these labels),
rickyyyyyyy/torchvision-stanford-cars (complete), and cyizhuo/stanford-cars-by-classes-folder (train/CLASS). The other
official form is car_ims.tgz and cars_annos.mat.

There are 8,144 training and 8,041 test images of 196 models (make, model and year) by 49 makes.""",
    read=read,
)
