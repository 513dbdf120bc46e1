"""Official archives of datasets: how a source finds an unpacked one, and checks that it is whole."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgssl.data.source import SourceDataset
from fgssl.data.sources.class_folders import entries, is_folder, is_hidden, is_image
from fgssl.data.sources.labeled_files import ReadFile, Splits, levels, samples, without_images
from fgssl.errors import DataError, alternatives
from fgssl.store.files import unreadable
from fgssl.store.manifest import LISTED_FAULTS, listed

LISTED_ENTRIES = 8
"""Most entries of a folder that a message lists."""
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z")


@dataclass(frozen=True)
class Official:
    """Official archive of a dataset, with its numbers of images and classes."""

    title: str
    """Name of the dataset, as messages give it."""
    images: Mapping[str, int]
    """Number of images by split."""
    classes: Mapping[str, int]
    """Number of classes by level; levels whose number is not known are left out."""

    def __str__(self) -> str:
        return f"the official {self.title} contains {_described(self.images, self.classes)}"

    def folder(self, root: Path, mark: str | Sequence[str], inside: Sequence[str] = ()) -> Path:
        """Return the folder that holds `mark`: `root`, or one of the folders `inside` of it.

        `mark` is the name of a file or folder, or several names, any of which marks the folder.

        Raises:
            DataError: None of them does; the message gives the marks, what is there instead, and what the official
                archive contains.
        """
        marks = (mark,) if isinstance(mark, str) else mark
        places = [root, *(root / name for name in inside)]
        for place in places:
            if any((place / name).exists() for name in marks):
                return place
        if not root.exists():
            raise DataError(f"{root}: does not exist: {alternatives(root)}")
        if not root.is_dir():
            raise DataError(f"{root}: is a file: unpack it, and give the folder that it was unpacked into ({self})")
        raise DataError(
            f"{root}: no {self.title} here: {' or '.join(marks)} must be in {' or '.join(map(str, places))}\n"
            f"{_instead(root, marks)}\n{self}"
        )

    def dataset(
        self,
        name: str,
        splits: Splits,
        seed: int,
        *,
        accept: bool,
        level_names: Sequence[str] | None = None,
        arguments: Mapping[str, str | int] | None = None,
        remarks: Sequence[str] = (),
        read: ReadFile | None = None,
    ) -> SourceDataset:
        """Return the dataset of the source `name`, with a remark if its counts are not the official ones.

        `level_names` are those of the files' classes, finest first; the default is the levels with official counts.
        `arguments` are settings of the source apart from the seed. `read` makes a sample of a file and its labels; the
        default takes the file as it is.

        Raises:
            DataError: The counts are other ones and `accept` is false, or a class has no images in a split.
        """
        classes = levels(level_names or list(self.classes), splits)
        dataset = SourceDataset(
            name=name,
            source=name,
            arguments={"seed": seed, **(arguments or {})},
            levels=classes,
            splits={split: samples(files, classes, read) for split, files in splits.items()},
            seed=seed,
            remarks=tuple(remarks),
        )
        return self.checked(dataset, accept, [*without_images(splits, classes[:1]), *_in_two_splits(splits)])

    def checked(self, dataset: SourceDataset, accept: bool, faults: Sequence[str] = ()) -> SourceDataset:
        """Return `dataset`, with a remark if its numbers of images or classes are not the official ones.

        Raises:
            DataError: The numbers are other ones and `accept` is false, or there are `faults`; the message has both.
        """
        images = {split: len(files) for split, files in dataset.splits.items()}
        classes = {level.name: len(level.classes) for level in dataset.levels}
        differs = images != dict(self.images) or any(
            classes.get(level) != self.classes[level] for level in self.classes
        )
        found = _described(images, classes)
        if differs and not accept:
            raise DataError(
                f"{dataset.name}: found {found}, but {self}; unpack the archive again, or give accept_counts=true to "
                "pack what is there" + "".join(f"\n  {fault}" for fault in faults[:LISTED_FAULTS])
            )
        self.raise_faults(faults)
        return dataclasses.replace(dataset, remarks=(*dataset.remarks, *[f"packed {found}; {self}"] * differs))

    def raise_faults(self, faults: Sequence[str]) -> None:
        """Raise a `DataError` that lists `faults`, if there are any, and gives what the official archive contains."""
        if faults:
            advice = "unpack it again, or correct the files that are named above"
            raise DataError(f"{listed(faults, 'fault', 'faults')}\n{self}: {advice}")


def _instead(root: Path, marks: Sequence[str]) -> str:
    """Return what a folder holds that has no mark, and advice: an archive to unpack, or a folder beside to give."""
    there = [entry for entry in entries(root) if not is_hidden(entry.name)]
    names = [entry.name for entry in there]
    more = [f"and {len(names) - LISTED_ENTRIES} more"] * (len(names) > LISTED_ENTRIES)
    holds = f"{root} holds {', '.join([*names[:LISTED_ENTRIES], *more]) or 'nothing'}"
    near = [root.absolute().parent, *(Path(entry.path) for entry in there if is_folder(entry))]
    if found := next((place for place in near if any((place / mark).exists() for mark in marks)), None):
        return f"{holds}: did you mean {found}?"
    if archive := next((name for name in names if name.endswith(ARCHIVES)), None):
        return f"{holds}: unpack {archive} and all other archives first"
    return f"{holds}: give the folder that the official archives were unpacked into"


def _in_two_splits(splits: Splits) -> list[str]:
    """Return one fault for each image that lists put into two splits."""
    found: dict[str, list[str]] = {}
    for split, files in splits.items():
        for name in {file.source_id for file in files}:
            found.setdefault(name, []).append(split)
    return [f"{name}: is in {' and '.join(found[name])}" for name in sorted(found) if len(found[name]) > 1]


def _described(images: Mapping[str, int], classes: Mapping[str, int]) -> str:
    splits = " and ".join(f"{number:,} {split}" for split, number in images.items())
    return f"{splits} images ({', '.join(f'{number} x {level}' for level, number in classes.items()) or 'unlabeled'})"


def image_names(folder: Path) -> set[str]:
    """Return the images below `folder`, as paths relative to it with slashes.

    Links to folders are followed; hidden files and folders are left out.

    Raises:
        DataError: A folder cannot be read, or a link leads back to a folder that it is in.
    """
    names: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        parent = Path(place).relative_to(folder)
        for name in folders:
            _refuse_loop(folder, parent / name)
        names.update((parent / name).as_posix() for name in files if is_image(name) and not is_hidden(name))
    return names


def _refuse_loop(folder: Path, inside: Path) -> None:
    """Raise a `DataError` if `inside`, a path relative to `folder`, is a link to one of the folders that it is in."""
    link = folder / inside
    if link.is_symlink():
        target = link.resolve()
        if any((folder / parent).resolve().is_relative_to(target) for parent in inside.parents):
            raise DataError(f"{link}: is a link to {target}, which it is in: remove the link")


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # the list names what is missing
        raise DataError(unreadable(Path(error.filename), error)) from None


def unlisted(names: Sequence[str], reason: str) -> tuple[str, ...]:
    """Return a remark on the images `names`, if there are any; `reason` is such as "labels.csv does not list"."""
    one, many = (f"{noun} left out, since {reason} {it}" for noun, it in (("image", "it"), ("images", "them")))
    return (listed(names, one, many),) if names else ()
