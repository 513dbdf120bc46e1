"""Source `folder`: class folders one or two levels deep (genus/species), or one flat unlabeled folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fgssl.data.source import Sample, Source, SourceDataset
from fgssl.data.sources.encoded_image import SUFFIXES, file_sample
from fgssl.errors import DataError, alternatives
from fgssl.settings.declare import NonNegativeInt, settings
from fgssl.store.manifest import Level, listed

LEVEL_NAMES: tuple[tuple[str, ...], ...] = ((), ("class",), ("species", "genus"))
"""Names of the label levels, finest first, by the depth of the class folders."""


@settings
class FolderSettings:
    """Options of `fgssl pack folder`."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """Name of the dataset; the default is the name of the folder."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each class for the test split, if there is neither a `train` nor a `test` folder."""
    seed: NonNegativeInt = 0
    """Seed of the split into train and test, and of the order in the shards."""
    levels: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    """Names of the label levels, finest first, such as [species,family]; if not given, class for one level, and
    species and genus for two."""

    def __post_init__(self) -> None:
        if self.levels and len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels: each level needs a name of its own, not {', '.join(self.levels)}")


@dataclass(frozen=True)
class _Image:
    path: Path
    classes: tuple[str, ...]
    """Class names, finest first. A species is named GENUS/SPECIES, because two genera may have a species
    of the same name."""


def read(root: Path, options: FolderSettings) -> SourceDataset:
    """List and label the images below `root`.

    Raises:
        DataError: The layout has faults; the message lists them, or the first kind that prevents looking further.
    """
    faults: list[str] = []
    strangers: list[str] = []
    there = {entry.name for entry in _entries(root) if entry.is_dir()}
    arguments: dict[str, float] = {"seed": options.seed}
    if there & {"train", "test"}:
        if faults_here := _beside_splits(root, there):
            raise DataError(listed(faults_here, "fault in the layout", "faults in the layout"))
        splits = {split: _images(root / split, faults, strangers) for split in ("train", "test")}
    else:
        images = _images(root, faults, strangers)
        splits = {"train": images}
        if images and images[0].classes:
            arguments["test_fraction"] = options.test_fraction
            splits = _split(images, options, faults)
    depths = {len(image.classes) for images in splits.values() for image in images}
    if len(depths) > 1:
        faults.append(f"{root}: class folders must be equally deep everywhere, here they have depths {sorted(depths)}")
    if faults:
        raise DataError(listed(faults, "fault in the layout", "faults in the layout"))
    levels = tuple(
        Level(name, tuple(sorted({image.classes[level] for images in splits.values() for image in images})))
        for level, name in enumerate(_level_names(root, depths.pop(), options))
    )
    if faults := _lacking(splits, levels[:1]):
        raise DataError(listed(faults, "class without images in a split", "classes without images in a split"))
    one = "file skipped, since its name does not end like that of an image"
    remarks = (listed(sorted(strangers), one, "files skipped, since their names do not end like those of images"),)
    return SourceDataset(
        name=options.name or root.resolve().name,
        source="folder",
        arguments=arguments,
        levels=levels,
        splits={split: _recipes(images, root, levels) for split, images in splits.items()},
        seed=options.seed,
        remarks=remarks if strangers else (),
    )


def _level_names(root: Path, depth: int, options: FolderSettings) -> tuple[str, ...]:
    names = LEVEL_NAMES[depth] if options.levels is None else options.levels
    if len(names) != depth:
        levels = "one level" if depth == 1 else "two levels"
        found = f"{root} has class folders in {levels}" if depth else f"{root} has no class folders"
        number = {1: "give one name", 2: "give two names, finest first"}
        advice = ", or ".join(filter(None, [number.get(depth), "remove levels"]))
        raise DataError(f"levels: [{', '.join(names)}] does not fit: {found}; {advice}")
    return names


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        advice = "give the folder of your images" if folder.exists() else alternatives(folder)
        raise DataError(f"{folder}: cannot read this folder ({error.strerror}); {advice}") from None


def _beside_splits(root: Path, there: set[str]) -> list[str]:
    faults = [
        f"{root / split}: is missing, but its counterpart is there" for split in ("train", "test") if split not in there
    ]
    faults += [
        f"{root / name}: is neither train nor test: move it out of {root}" for name in sorted(there - {"train", "test"})
    ]
    faults += [
        f"{entry}: an image beside train and test: move it out of {root}, or into a class folder"
        for entry in _entries(root)
        if entry.suffix.lower() in SUFFIXES and entry.is_file()
    ]
    return faults


def _images(root: Path, faults: list[str], strangers: list[str], parents: tuple[str, ...] = ()) -> list[_Image]:
    """Return all images below `root`; `parents` are the class folders above them, coarsest first."""
    folders, files = [], []
    for entry in _entries(root):
        if entry.is_dir():
            folders.append(entry)
        elif entry.suffix.lower() in SUFFIXES:
            files.append(entry)
        else:
            strangers.append(str(entry))
    if folders and files:
        faults.append(f"{root}: holds both images and folders ({files[0].name}, {folders[0].name}); keep one kind")
    elif not folders and not files:
        faults.append(f"{root}: no images in it; an image's name ends in {' '.join(sorted(SUFFIXES))}")
    elif folders and len(parents) == 2:
        faults.append(f"{root}: holds folders ({folders[0].name}); class folders may be two levels deep at most")
    elif folders:
        return [image for folder in folders for image in _images(folder, faults, strangers, (*parents, folder.name))]
    classes = ("/".join(parents), *parents[:-1]) if parents else ()
    return [_Image(path, classes) for path in files]


def _split(images: Sequence[_Image], options: FolderSettings, faults: list[str]) -> dict[str, list[_Image]]:
    """Return the splits, with a seeded share of each class in `test`: at least one image, and not all."""
    import numpy as np

    from fgssl.randomness import uniform

    keys = uniform(options.seed, "folder/split", rows=np.arange(len(images), dtype=np.int64), columns=1)[:, 0]
    by_class: dict[str, list[int]] = {}
    for number, image in enumerate(images):
        by_class.setdefault(image.classes[0], []).append(number)
    test: set[int] = set()
    for name, numbers in by_class.items():
        if len(numbers) < 2:
            faults.append(f"{images[numbers[0]].path.parent}: class {name} has one image; train and test need one each")
        share = min(max(1, round(options.test_fraction * len(numbers))), len(numbers) - 1)
        test.update(sorted(numbers, key=lambda number: keys[number])[:share])
    return {
        "train": [image for number, image in enumerate(images) if number not in test],
        "test": [image for number, image in enumerate(images) if number in test],
    }


def _lacking(splits: Mapping[str, Sequence[_Image]], finest: Sequence[Level]) -> list[str]:
    return [
        f"class {name}: no images in {split}"
        for split, images in splits.items()
        for level in finest
        for name in sorted(set(level.classes) - {image.classes[0] for image in images})
    ]


def _recipes(images: Sequence[_Image], root: Path, levels: Sequence[Level]) -> list[partial[Sample]]:
    numbers = [{name: number for number, name in enumerate(level.classes)} for level in levels]
    return [
        partial(
            file_sample,
            image.path,
            tuple(level[name] for level, name in zip(numbers, image.classes, strict=True)),
            image.path.relative_to(root).as_posix(),
        )
        for image in images
    ]


SOURCE = Source(
    name="folder",
    summary="class folders, one or two levels deep (genus/species), or a flat unlabeled folder",
    settings=FolderSettings,
    levels=(),
    how_to_get="""\
IMAGES holds your own images, or those of an archive, arranged in one of these ways. The names of the folders become
the labels. If there is neither a train nor a test folder, a random share of each class (test_fraction, drawn with
seed) becomes the test split; having only one of the two is an error.

    IMAGES/train/CLASS/*.jpg          IMAGES/test/CLASS/*.jpg            one level (class)
    IMAGES/train/GENUS/SPECIES/*.jpg  IMAGES/test/GENUS/SPECIES/*.jpg    two levels (species, genus)
    IMAGES/CLASS/*.jpg                IMAGES/GENUS/SPECIES/*.jpg         the same, not yet split
    IMAGES/*.jpg                                                         unlabeled (all images go to train)

JPEG, PNG, PPM, PGM, BMP, WebP and TIFF files are read; other files are skipped.

Other names of the levels, finest first: levels=[species,family].""",
    read=read,
)
