"""Source `folder`: class folders one or more levels deep (genus/species), or one flat unlabeled folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fgssl.data.source import Source, SourceDataset
from fgssl.data.sources.class_folders import (
    ClassFile,
    Found,
    aligned,
    count,
    entries,
    images,
    is_folder,
    is_hidden,
    is_image,
    note_case,
)
from fgssl.data.sources.labeled_files import LabeledFile, levels, samples, without_images
from fgssl.data.sources.split_names import SplitNames, kind_of, recognize
from fgssl.data.sources.splitting import split
from fgssl.errors import DataError
from fgssl.settings.declare import NonNegativeInt, settings
from fgssl.store.manifest import listed

LEVEL_NAMES: tuple[tuple[str, ...], ...] = ((), ("class",), ("species", "genus"))
"""Names of the label levels, finest first, by the depth of the class folders."""


@settings
class FolderSettings:
    """Options of `fgssl pack folder`."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """Name of the dataset; the default is the name of the folder."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each class for the test split, if no folder is named like a split."""
    seed: NonNegativeInt = 0
    """Seed of the split into train and test, and of the order in the shards."""
    levels: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    """Names of the label levels, finest first, such as [species,family]; if not given, class for one level, and
    species and genus for two. More levels need names."""
    train: SplitNames | None = None
    """Folder of the training split, or several such as [train,val]; if not given, the one named train or training."""
    test: SplitNames | None = None
    """Folder of the test split, such as val; if not given, the one that has a usual name of a test split, or else of a
    validation split."""
    split_folders: bool = True
    """Whether folders with usual names of splits are splits. With false they are classes."""

    def __post_init__(self) -> None:
        if self.levels and len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels: each level needs a name of its own, not {', '.join(self.levels)}")
        if not self.split_folders and (self.train or self.test):
            raise ValueError("split_folders: false contradicts train and test, which name folders of splits")


def read(root: Path, options: FolderSettings) -> SourceDataset:
    """List and label the images below `root`.

    Raises:
        DataError: The layout has faults; the message lists them, or the first kind that prevents looking further.
    """
    found = Found(max(2, len(options.levels or ())), not options.split_folders)
    arguments: dict[str, float] = {"seed": options.seed}
    folders, remarks = _split_folders(root, options)
    trees = {
        name: [file for folder in names for file in images(root / folder, found)] for name, names in folders.items()
    } or {"train": images(root, found)}
    depth = _depth(root, trees, found)
    _refuse(found.faults)
    names = _level_names(root, depth, options)
    for files in trees.values():
        note_case(files, found)
    if "test" in trees:
        trees["test"] = aligned(trees["test"], trees["train"], found)
    splits = {name: [_labeled(file, root) for file in files] for name, files in trees.items()}
    if not folders and names:
        arguments["test_fraction"] = options.test_fraction
        splits, equal = split(splits["train"], options.test_fraction, options.seed, found.faults)
        remarks += equal
    _refuse(found.faults)
    classes = levels(names, splits)
    if faults := without_images(splits, classes[:1]):
        raise DataError(
            listed(faults, "class without images in a split", "classes without images in a split")
            + "\nadd images, or move the folder of the class out of the other split"
        )
    if len(names) > 1 and len(classes[-1].classes) == 1:
        only = classes[-1].classes[0]
        remarks.append(
            f"all images are of one {names[-1]}, {only}: if that is no class, give the folder {only} as IMAGES"
        )
    return SourceDataset(
        name=options.name or root.resolve().name,
        source="folder",
        arguments=arguments,
        levels=classes,
        splits={name: samples(files, classes) for name, files in splits.items()},
        seed=options.seed,
        remarks=(*remarks, *found.remarks()),
    )


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise DataError(listed(faults, "fault in the layout", "faults in the layout"))


def _depth(root: Path, trees: Mapping[str, Sequence[ClassFile]], found: Found) -> int:
    """Return the number of levels of class folders; append a fault if images have different ones."""
    example_of = {len(file.folders): file.path for files in trees.values() for file in files}
    if len(example_of) > 1:
        found.faults.append(
            f"{root}: class folders must be equally deep everywhere, here they have depths {sorted(example_of)}, such "
            f"as {' and '.join(str(example_of[depth]) for depth in sorted(example_of))}: move images or folders"
        )
    return max(example_of, default=0)


def _level_names(root: Path, depth: int, options: FolderSettings) -> tuple[str, ...]:
    names = LEVEL_NAMES[depth] if options.levels is None else options.levels
    if len(names) != depth:
        found = f"{root} has class folders in {count(depth)}" if depth else f"{root} has no class folders"
        number = {0: "", 1: "give one name"}.get(depth, f"give {count(depth).split()[0]} names, finest first")
        advice = ", or ".join(filter(None, [number, "remove levels" if depth < 3 else ""]))
        raise DataError(f"levels: [{', '.join(names)}] does not fit: {found}; {advice}")
    return names


def _split_folders(root: Path, options: FolderSettings) -> tuple[dict[str, SplitNames], list[str]]:
    """Return the folders of each split, none if nothing is named like a split, and remarks about them."""
    there = [entry for entry in entries(root) if not is_hidden(entry.name)]
    folders = {entry.name for entry in there if is_folder(entry)}
    chosen = options.train is not None or options.test is not None
    like_splits = {name for name in folders if kind_of(name) is not None}
    if not options.split_folders or not (like_splits or chosen):
        return {}, []
    if not chosen and (others := sorted(folders - like_splits)):
        raise DataError(
            f"{root}: holds {', '.join(sorted(like_splits))}, named like splits, beside {_few(others)}: are these "
            "classes? Give split_folders=false if all are classes, train=NAME test=NAME to read two of them as "
            "splits, or move the others out"
        )
    if stray := next((entry.path for entry in there if is_image(entry.name) and not is_folder(entry)), None):
        raise DataError(f"{stray}: an image beside train and test: move it out of {root}, or into a class folder")
    lone = "give that folder itself as IMAGES to have fgssl split it"
    splits, remarks = recognize(folders, options.train, options.test, str(root), lone)
    left_out = sorted(folders - set(splits["train"]) - set(splits["test"]))
    if left_out:
        remarks.append(f"left out, since neither train nor test names it: {_few(left_out)}")
    return splits, remarks


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *[f"{len(names) - 5} more"] * (len(names) > 5)])


def _labeled(file: ClassFile, root: Path) -> LabeledFile:
    """Return the file with its classes, finest first.

    A species is named GENUS/SPECIES, because two genera may have a species of the same name.
    """
    classes = tuple("/".join(file.folders[:depth]) for depth in range(len(file.folders), 0, -1))
    return LabeledFile(file.path, file.path.relative_to(root).as_posix(), classes)


SOURCE = Source(
    name="folder",
    summary="class folders, one or more levels deep (genus/species), or a flat unlabeled folder",
    settings=FolderSettings,
    levels=(),
    how_to_get="""\
IMAGES holds your own images, or those of an archive, arranged in one of these ways. The names of the folders become
the labels. If no folder is named like a split, a share of each class (test_fraction, drawn by the names of the files
with seed) becomes the test split; files with equal bytes stay together. Having one split only is an error.

    IMAGES/train/CLASS/*.jpg          IMAGES/test/CLASS/*.jpg            one level (class)
    IMAGES/train/GENUS/SPECIES/*.jpg  IMAGES/test/GENUS/SPECIES/*.jpg    two levels (species, genus)
    IMAGES/CLASS/*.jpg                IMAGES/GENUS/SPECIES/*.jpg         the same, not yet split
    IMAGES/*.jpg                                                         unlabeled (all images go to train)

Splits are recognized in any case: train or training; test, testing, eval or evaluation; and without one of these val,
valid, validation or dev. Others are chosen by train=NAME test=NAME, and split_folders=false makes all of them classes.

JPEG, PNG, PPM, PGM, BMP, WebP and TIFF files are read; other files are skipped.

Other names of the levels, finest first: levels=[species,family]. Three levels or more need such names.""",
    read=read,
)
