"""Official archives of datasets: how a source finds an unpacked one, and checks that it is whole."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgssl.data.source import SourceDataset
from fgssl.data.sources.encoded_image import SUFFIXES
from fgssl.errors import DataError, alternatives
from fgssl.store.manifest import listed


@dataclass(frozen=True)
class Official:
    """Official archive of a dataset, with its numbers of images and classes."""

    title: str
    """Name of the dataset, as messages give it."""
    images: Mapping[str, int]
    """Number of images by split."""
    classes: Mapping[str, int]
    """Number of classes by level."""

    def __str__(self) -> str:
        return f"the official {self.title} contains {_described(self.images, self.classes)}"

    def folder(self, root: Path, mark: str, inside: Sequence[str] = ()) -> Path:
        """Return the folder that holds the file or folder `mark`: `root`, or one of the folders `inside` of it.

        Raises:
            DataError: None of them does; the message gives `mark` and what the official archive contains.
        """
        places = [root, *(root / name for name in inside)]
        for place in places:
            if (place / mark).exists():
                return place
        if not root.exists():
            raise DataError(f"{root}: does not exist: {alternatives(root)}")
        tried = " and ".join(str(place / mark) for place in places)
        raise DataError(
            f"{root}: no {self.title} here: {tried} {'is' if len(places) == 1 else 'are'} missing; give the folder "
            f"that the official archives were unpacked into ({self})"
        )

    def checked(self, dataset: SourceDataset, accept: bool) -> SourceDataset:
        """Return `dataset`, with a remark if its numbers of images or classes are not the official ones.

        Raises:
            DataError: The numbers are other ones, and `accept` is false.
        """
        images = {split: len(recipes) for split, recipes in dataset.splits.items()}
        classes = {level.name: len(level.classes) for level in dataset.levels}
        if images == dict(self.images) and classes == dict(self.classes):
            return dataset
        found = _described(images, classes)
        if not accept:
            raise DataError(
                f"{dataset.name}: found {found}, but {self}; unpack the archive again, or give accept_counts=true to "
                "pack what is there"
            )
        return dataclasses.replace(dataset, remarks=(*dataset.remarks, f"packed {found}; {self}"))

    def raise_faults(self, faults: Sequence[str]) -> None:
        """Raise a `DataError` that lists `faults`, if there are any, and gives what the official archive contains."""
        if faults:
            raise DataError(f"{listed(faults, 'fault', 'faults')}\n{self}")


def _described(images: Mapping[str, int], classes: Mapping[str, int]) -> str:
    splits = " and ".join(f"{number:,} {split}" for split, number in images.items())
    return f"{splits} images ({', '.join(f'{number} x {level}' for level, number in classes.items()) or 'unlabeled'})"


def image_names(folder: Path) -> set[str]:
    """Return the images below `folder`, as paths relative to it with slashes; hidden files are left out."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    }
