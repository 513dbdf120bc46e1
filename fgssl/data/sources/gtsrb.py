"""Source `gtsrb`: German Traffic Sign Recognition Benchmark (Stallkamp et al. 2012, doi:10.1016/j.neunet.2012.02.016).

The source reads the official layout, as unpacked from the archives:

    GTSRB/Final_Training/Images/000NN/GT-000NN.csv and TTTTT_FFFFF.ppm: frame F of track T of class N
    GTSRB/Final_Test/Images/NNNNN.ppm
    GT-final_test.csv, in or beside GTSRB or with the test images

It ignores the sizes and boxes in the CSV files, which belong to the original photographs.
"""

import csv
import re
from functools import partial
from pathlib import Path

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.encoded_image import file_sample
from fgssl.errors import DataError
from fgssl.settings.declare import NonNegativeInt, settings
from fgssl.store.manifest import Level, listed

SIGNS = (
    "Speed limit (20km/h)",
    "Speed limit (30km/h)",
    "Speed limit (50km/h)",
    "Speed limit (60km/h)",
    "Speed limit (70km/h)",
    "Speed limit (80km/h)",
    "End of speed limit (80km/h)",
    "Speed limit (100km/h)",
    "Speed limit (120km/h)",
    "No passing",
    "No passing for vehicles over 3.5 metric tons",
    "Right-of-way at the next intersection",
    "Priority road",
    "Yield",
    "Stop",
    "No vehicles",
    "Vehicles over 3.5 metric tons prohibited",
    "No entry",
    "General caution",
    "Dangerous curve to the left",
    "Dangerous curve to the right",
    "Double curve",
    "Bumpy road",
    "Slippery road",
    "Road narrows on the right",
    "Road work",
    "Traffic signals",
    "Pedestrians",
    "Children crossing",
    "Bicycles crossing",
    "Beware of ice/snow",
    "Wild animals crossing",
    "End of all speed and passing limits",
    "Turn right ahead",
    "Turn left ahead",
    "Ahead only",
    "Go straight or right",
    "Go straight or left",
    "Keep right",
    "Keep left",
    "Roundabout mandatory",
    "End of no passing",
    "End of no passing by vehicles over 3.5 metric tons",
)
GROUPS: dict[str, tuple[int, ...]] = {
    "speed limits": (0, 1, 2, 3, 4, 5, 7, 8),
    "other prohibitory": (9, 10, 15, 16),
    "derestriction": (6, 32, 41, 42),
    "mandatory": (33, 34, 35, 36, 37, 38, 39, 40),
    "danger": (11, *range(18, 32)),
    "unique": (12, 13, 14, 17),
}
_GROUP_OF = {sign: number for number, signs in enumerate(GROUPS.values()) for sign in signs}


@settings
class GTSRBSettings:
    """Options of `fgssl pack gtsrb`."""

    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


def read(root: Path, options: GTSRBSettings) -> SourceDataset:
    """Read the annotations below `root`, the GTSRB folder or its parent; raise a `DataError` with all their faults."""
    base = _base(root)
    faults: list[str] = []
    splits = {"train": _training(base / "Final_Training" / "Images", faults), "test": _test(base, root, faults)}
    faults += [
        f"class {sign:02d} {name}: no images in {split}"
        for split, rows in splits.items()
        for sign, name in enumerate(SIGNS)
        if not any(row[1] == sign for row in rows)
    ]
    if faults:
        raise DataError(listed(faults, "fault in the annotations", "faults in the annotations"))
    return SourceDataset(
        name="gtsrb",
        source="gtsrb",
        arguments={"seed": options.seed},
        levels=(
            Level("sign", tuple(f"{number:02d} {name}" for number, name in enumerate(SIGNS))),
            Level("group", tuple(GROUPS)),
        ),
        splits={
            split: [
                partial(file_sample, path, (sign, _GROUP_OF[sign]), path.relative_to(base).as_posix(), track)
                for path, sign, track in rows
            ]
            for split, rows in splits.items()
        },
        seed=options.seed,
    )


def _base(root: Path) -> Path:
    for folder in (root, root / "GTSRB"):
        if (folder / "Final_Training").is_dir():
            return folder
    raise DataError(
        f"{root}: no GTSRB here: {root / 'Final_Training'} or {root / 'GTSRB' / 'Final_Training'} is missing; give the "
        "folder that the official archives were unpacked into"
    )


def _training(images: Path, faults: list[str]) -> list[tuple[Path, int, str]]:
    """Return (file, class, group) of each training image; the group is its track, as `class_track`."""
    rows = []
    for sign in range(len(SIGNS)):
        folder = images / f"{sign:05d}"
        for path, stated in _annotated(folder / f"GT-{sign:05d}.csv", folder, faults):
            if stated != sign:
                faults.append(f"{path}: stands in the folder of class {sign}, but its row has class {stated}")
            elif match := re.fullmatch(r"(\d{5})_\d{5}\.ppm", path.name):
                rows.append((path, sign, f"{sign:05d}_{match[1]}"))
            else:
                faults.append(f"{path}: its name must give track and frame (TTTTT_FFFFF.ppm)")
    return rows


def _test(base: Path, root: Path, faults: list[str]) -> list[tuple[Path, int, str]]:
    images = base / "Final_Test" / "Images"
    places = [folder / "GT-final_test.csv" for folder in (base, base.parent, root, images)]
    annotations = next((place for place in places if place.is_file()), places[0])
    return [(path, sign, "") for path, sign in _annotated(annotations, images, faults)]


def _annotated(annotations: Path, folder: Path, faults: list[str]) -> list[tuple[Path, int]]:
    """Return (file, class) of each row that has both; append all others to `faults`."""
    try:
        with annotations.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        files = {path.name for path in folder.iterdir() if path.suffix == ".ppm"}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        faults.append(f"{annotations}: cannot be read: {getattr(error, 'strerror', None) or error}")
        return []
    good, named = [], set()
    for line, row in enumerate(rows, start=2):
        name, stated = row.get("Filename"), row.get("ClassId")
        if name is None or stated is None:
            faults.append(f"{annotations}, line {line}: lacks Filename or ClassId")
            continue
        if name in named:
            faults.append(f"{annotations}, line {line}: a second row for {name}")
            continue
        named.add(name)
        if not re.fullmatch(r"\d{1,2}", stated) or int(stated) >= len(SIGNS):
            faults.append(f"{annotations}, line {line}: class {stated!r} of {name} is not one of 0-{len(SIGNS) - 1}")
        elif name not in files:
            faults.append(f"{annotations}, line {line}: {name} is missing in {folder}")
        else:
            good.append((folder / name, int(stated)))
    faults += [f"{folder / name}: has no row in {annotations}" for name in sorted(files - named)]
    return good


SOURCE = Source(
    name="gtsrb",
    summary="the German traffic signs, as unpacked from the official archives",
    settings=GTSRBSettings,
    levels=("sign", "group"),
    how_to_get="""\
The archives are linked from https://benchmark.ini.rub.de/, which states the terms of use; cite Stallkamp et al. 2012
(doi:10.1016/j.neunet.2012.02.016). Unpack the training images, the test images and the labels of the test images:

    unzip GTSRB_Final_Training_Images.zip -d IMAGES
    unzip GTSRB_Final_Test_Images.zip -d IMAGES
    unzip GTSRB_Final_Test_GT.zip -d IMAGES

A flip would turn left signs into right ones: train with views.horizontal_flip=false.""",
    read=read,
)
