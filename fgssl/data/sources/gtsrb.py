"""Source `gtsrb`: German Traffic Sign Recognition Benchmark (Stallkamp et al. 2012, doi:10.1016/j.neunet.2012.02.016).

The source reads three layouts; frame F of track T of class N is TTTTT_FFFFF.ppm, and PNG files may stand for PPM files:

    GTSRB/Final_Training/Images/000NN/, each with GT-000NN.csv, as unpacked from the official archives
    GTSRB/Training/000NN/ likewise, as torchvision downloads it
    GTSRB/Final_Test/Images/ with both, and GT-final_test.csv in or beside GTSRB or with the test images
    Train/N/, Train.csv, Test/ and Test.csv, as on Kaggle

It ignores the sizes and boxes in the CSV files, which belong to the original photographs.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.labeled_files import LabeledFile, samples, without_images
from fgssl.data.sources.official import Official, image_names
from fgssl.data.sources.tables import read_csv
from fgssl.errors import DataError
from fgssl.settings.declare import NonNegativeInt, settings
from fgssl.store.manifest import Level

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
LEVELS = (
    Level("sign", tuple(f"{number:02d} {name}" for number, name in enumerate(SIGNS))),
    Level("group", tuple(GROUPS)),
)
OFFICIAL = Official("GTSRB", images={"train": 39_209, "test": 12_630}, classes={"sign": 43, "group": 6})
PAPER = {"train": 4800, "test": 3750}
"""Number of images of each split in the paper on Synthesized Pairs."""
_GROUP_OF = {sign: name for name, signs in GROUPS.items() for sign in signs}
_COMPETITION = (
    "Training holds the training images of the competition of 2011 (26,640), which torchvision downloads; the official "
    "training images (39,209, in Final_Training) are these and the test images of the competition"
)

_DIRECTION = (
    "signs have a direction, and a flip turns left into right: train with views.horizontal_flip=false, as "
    "sweeps/presets/gtsrb.yaml does"
)


@settings
class GTSRBSettings:
    """Options of `fgssl pack gtsrb`."""

    split: Literal["official", "paper"] = "official"
    """Choice of images from the official splits, which were made by track. With official, all images are packed. With
    paper, 4,800 training and 3,750 test images are, as in Synthesized Pairs. The paper does not name its images: each
    class keeps its share, and `seed` and the names of the images choose within it."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards, and of the choice of images if `split` is paper."""


def read(root: Path, options: GTSRBSettings) -> SourceDataset:
    """Read the annotations in `root`, the folder of one of the layouts or its parent.

    Other numbers of images are accepted with a remark, since the annotations show that all images are there.

    Raises:
        DataError: Annotations and images contradict each other, or images are missing; the message has all faults.
    """
    marks = ("Final_Training", "Training", "Train.csv")
    base = OFFICIAL.folder(root, marks, ["GTSRB", "gtsrb/GTSRB"])
    faults: list[str] = []
    layout = next(mark for mark in marks if (base / mark).exists())
    if layout == "Train.csv":
        splits = {
            "train": _files(base, base / "Train.csv", "Train", faults, column="Path", delimiter=","),
            "test": _files(base, base / "Test.csv", "Test", faults, column="Path", delimiter=",", tracks=False),
        }
    else:
        splits = {"train": _training(base, layout, faults), "test": _test(base, root, faults)}
    OFFICIAL.raise_faults([*faults, *without_images(splits, LEVELS[:1])])
    arguments: dict[str, str | int] = {"seed": options.seed}
    if options.split == "paper":
        arguments["split"] = "paper"
        splits = {split: _share(files, PAPER[split], options.seed, split) for split, files in splits.items()}
    dataset = SourceDataset(
        name="gtsrb",
        source="gtsrb",
        arguments=arguments,
        levels=LEVELS,
        splits={split: samples(files, LEVELS) for split, files in splits.items()},
        seed=options.seed,
        remarks=(_DIRECTION, _COMPETITION) if layout == "Training" else (_DIRECTION,),
    )
    return OFFICIAL.checked(dataset, accept=True)


def _training(base: Path, layout: str, faults: list[str]) -> list[LabeledFile]:
    images = "Final_Training/Images" if layout == "Final_Training" else layout
    files = []
    for sign in range(len(SIGNS)):
        folder = f"{images}/{sign:05d}"
        for file in _files(base, base / folder / f"GT-{sign:05d}.csv", folder, faults):
            if file.classes[0] == LEVELS[0].classes[sign]:
                files.append(file)
            else:
                faults.append(f"{file.path}: stands in the folder of class {sign}, but its row has {file.classes[0]}")
    return files


def _test(base: Path, root: Path, faults: list[str]) -> list[LabeledFile]:
    images = "Final_Test/Images"
    places = [folder / "GT-final_test.csv" for folder in (base, base.parent, root, base / images)]
    table = next((place for place in places if place.is_file()), places[0])
    return _files(base, table, images, faults, tracks=False)


def _files(
    base: Path,
    table: Path,
    folder: str,
    faults: list[str],
    *,
    column: str = "Filename",
    delimiter: str = ";",
    tracks: bool = True,
) -> list[LabeledFile]:
    """Return the images of a table that lie in a folder; if their names give `tracks`, these are the groups."""
    rows = read_csv(table, (column, "ClassId"), faults, delimiter)
    there: dict[str, str] = {}
    for name in sorted(image_names(base / folder)):
        if (other := there.setdefault(Path(name).with_suffix("").as_posix(), name)) != name:
            faults.append(f"{base / folder / name}: is the same frame as {Path(other).name}: keep one of the two files")
    files = []
    for row in rows:
        name, sign = row.cells
        stem = Path(name).with_suffix("").as_posix().removeprefix(f"{folder}/")
        file = there.pop(stem, None)
        track = re.fullmatch(r"(?:\d+/\d{5}_)?(\d{5})_\d{5}", stem)
        if not re.fullmatch(r"\d{1,2}", sign) or int(sign) >= len(SIGNS):
            faults.append(f"{row.place}: class {sign!r} of {name} must be one of 0-{len(SIGNS) - 1}")
        elif file is None:
            faults.append(f"{row.place}: {name} is missing in {base / folder}")
        elif tracks and track is None:
            faults.append(f"{base / folder / file}: its name must give track and frame (TTTTT_FFFFF.ppm)")
        else:
            group = f"{int(sign):05d}_{track[1]}" if tracks and track else ""
            classes = (LEVELS[0].classes[int(sign)], _GROUP_OF[int(sign)])
            files.append(LabeledFile(base / folder / file, f"{folder}/{file}", classes, group))
    faults += [f"{base / folder / name}: has no row in {table}" for name in sorted(there.values()) if rows]
    return files


def _share(files: Sequence[LabeledFile], number: int, seed: int, split: str) -> list[LabeledFile]:
    """Return `number` of the files, with the share of each class in them; names choose the files within a class."""
    if len(files) < number:
        raise DataError(f"split=paper: needs {number:,} {split} images, but there are {len(files):,}: {OFFICIAL}")
    by_class: dict[str, list[LabeledFile]] = {}
    for file in sorted(files, key=lambda file: hashlib.sha256(f"{seed}/{file.source_id}".encode()).digest()):
        by_class.setdefault(file.classes[0], []).append(file)
    shares = {name: number * len(members) / len(files) for name, members in by_class.items()}
    whole = {name: int(share) for name, share in shares.items()}
    largest = sorted(shares, key=lambda name: (whole[name] - shares[name], name))[: number - sum(whole.values())]
    chosen = {
        file.source_id for name, members in by_class.items() for file in members[: whole[name] + (name in largest)]
    }
    return [file for file in files if file.source_id in chosen]


SOURCE = Source(
    name="gtsrb",
    summary="the German traffic signs, from the official archives or a copy",
    settings=GTSRBSettings,
    levels=("sign", "group"),
    how_to_get="""\
The archives are linked from https://benchmark.ini.rub.de/, which states the terms of use; cite Stallkamp et al. 2012
(doi:10.1016/j.neunet.2012.02.016). Unpack the training images, the test images and the labels of the test images:

    unzip GTSRB_Final_Training_Images.zip -d IMAGES
    unzip GTSRB_Final_Test_Images.zip -d IMAGES
    unzip GTSRB_Final_Test_GT.zip -d IMAGES

They hold 39,209 training and 12,630 test images of 43 signs. The official split was made by track (an approach to a
sign), and a track is stored as the group of its training images. The archive that torchvision downloads
(GTSRB-Training_fixed.zip) has 26,640 of the training images; it is packed with a remark. The copy on Kaggle (Train.csv,
Test.csv and PNG files) is read as well.

A flip would turn left signs into right ones: train with views.horizontal_flip=false.""",
    read=read,
)
