"""Images in class folders, with all that is odd about their names and files."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fgssl.data.sources.encoded_image import SUFFIXES
from fgssl.data.sources.split_names import kind_of
from fgssl.errors import DataError, alternatives
from fgssl.store.manifest import listed

_NOTES = {
    "hidden": ("hidden file or folder skipped, though it is or holds images", "hidden files or folders with images"),
    "dead": ("dead link skipped", "dead links skipped"),
    "special": ("file skipped, since it is not a regular file", "files skipped, since they are not regular files"),
    "stranger": (
        "file skipped, since its name does not end like that of an image",
        "files skipped, since their names do not end like those of images",
    ),
    "case": (
        "class folder whose name differs from another only in case",
        "class folders whose names differ from others only in case",
    ),
    "taken": (
        "class folder taken for another, whose name differs in case",
        "class folders taken for others, whose names differ in case",
    ),
}


@dataclass(frozen=True)
class Found:
    """Faults and notes that are collected while folders are listed."""

    depth: int
    """Most levels of class folders."""
    split_names_are_classes: bool
    """Whether a class folder may be named like a split."""
    faults: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, text: str) -> None:
        """Add one line to the notes of a kind."""
        self.notes.setdefault(kind, []).append(text)

    def remarks(self) -> list[str]:
        """Return one remark for each kind of note, with its number and its lines."""
        return [listed(sorted(self.notes[kind]), *_NOTES[kind]) for kind in _NOTES if kind in self.notes]


@dataclass(frozen=True, slots=True)
class ClassFile:
    """Image file in class folders."""

    path: Path
    folders: tuple[str, ...]
    """Names of its class folders, coarsest first, without spaces at their ends and in Unicode's form NFC."""


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return all entries of a folder by name; raise a `DataError` if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        advice = "give the folder of your images" if folder.exists() else alternatives(folder)
        raise DataError(f"{folder}: cannot read this folder ({error.strerror}); {advice}") from None


def is_hidden(name: str) -> bool:
    """Return whether a name is hidden, or is that of the folder in which macOS archives keep icons and attributes."""
    return name.startswith(".") or name == "__MACOSX"


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def is_image(name: str) -> bool:
    """Return whether a name ends like that of an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def images(folder: Path, found: Found, parents: tuple[str, ...] = ()) -> list[ClassFile]:
    """Return all images below `folder`, whose own class folders are `parents`; append faults and notes to `found`."""
    try:
        there = entries(folder)
    except DataError as error:
        if not parents:
            raise
        found.faults.append(str(error))
        return []
    folders = [entry for entry in there if not is_hidden(entry.name) and is_folder(entry)]
    files = [Path(entry.path) for entry in there if not is_folder(entry) and _is_usable(entry, found)]
    _note_hidden(there, found)
    if folders and files:
        found.faults.append(
            f"{folder}: holds both images and folders ({files[0].name}, {folders[0].name}); keep one kind"
        )
    elif not folders and not files:
        found.faults.append(f"{folder}: no images in it; an image's name ends in {' '.join(sorted(SUFFIXES))}")
    elif folders and len(parents) == found.depth:
        found.faults.append(
            f"{folder}: holds folders ({folders[0].name}); class folders may be {count(found.depth)} deep at most, "
            "unless levels=[...] names more, finest first"
        )
    elif folders:
        named = _class_names(folders, found)
        return [file for path, name in named for file in images(path, found, (*parents, name))]
    return [ClassFile(path, parents) for path in files]


def count(levels: int) -> str:
    """Return a number of levels in words."""
    return {1: "one level", 2: "two levels", 3: "three levels"}.get(levels, f"{levels} levels")


def _is_usable(entry: os.DirEntry[str], found: Found) -> bool:
    """Return whether an entry that is not a folder is an image to read; note why if it is not."""
    if is_hidden(entry.name):
        return False  # noted with the hidden folders
    if entry.is_symlink() and not os.path.exists(entry.path):
        found.note("dead", entry.path)
    elif not is_image(entry.name):
        found.note("stranger", entry.path)
    elif not os.path.isfile(entry.path) if entry.is_symlink() else not entry.is_file():
        found.note("special", entry.path)
    else:
        return True
    return False


def _note_hidden(there: Sequence[os.DirEntry[str]], found: Found) -> None:
    for entry in there:
        if not is_hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            number = sum(1 for _ in _images_below(entry.path))
            if number:
                found.note("hidden", f"{entry.path} ({number} {'image' if number == 1 else 'images'})")
        elif is_image(entry.name):
            found.note("hidden", entry.path)


def _images_below(folder: str) -> Iterator[str]:
    return (name for _, _, names in os.walk(folder) for name in names if is_image(name))


def _class_names(folders: Sequence[os.DirEntry[str]], found: Found) -> list[tuple[Path, str]]:
    """Return the class folders and the names of their classes; append those with unusable names to the faults."""
    named: dict[str, list[os.DirEntry[str]]] = {}
    for entry in folders:
        try:
            os.fsencode(entry.name).decode()
        except UnicodeDecodeError:
            found.faults.append(f"{entry.path!a}: the name of this class folder is not UTF-8: rename it")
            continue
        if not found.split_names_are_classes and kind_of(entry.name) is not None:
            found.faults.append(
                f"{entry.path}: is named like a split, but stands where a class is expected: give the folder that "
                "holds the splits as IMAGES, or split_folders=false if this is a class"
            )
            continue
        named.setdefault(unicodedata.normalize("NFC", entry.name).strip() or entry.name, []).append(entry)
    for same in named.values():
        if len(same) > 1:
            names = " and ".join(ascii(entry.name) for entry in same)
            found.faults.append(
                f"{os.path.dirname(same[0].path)}: {names} are one name, written with other spaces or another form of "
                "Unicode: merge or rename these folders"
            )
    return [(Path(first.path), name) for name, (first, *_) in named.items()]


def note_case(files: Sequence[ClassFile], found: Found) -> None:
    """Note the class folders of a split that differ from others only in case, though they may lie in several places."""
    noted: set[tuple[str, ...]] = set()
    first: dict[tuple[tuple[str, ...], str], str] = {}
    for file in files:
        for depth, name in enumerate(file.folders):
            if file.folders[: depth + 1] not in noted:
                noted.add(file.folders[: depth + 1])
                other = first.setdefault((file.folders[:depth], name.casefold()), name)
                if other != name:
                    found.note("case", f"{file.path.parents[len(file.folders) - depth - 1]} ({other})")


def aligned(files: Sequence[ClassFile], reference: Sequence[ClassFile], found: Found) -> list[ClassFile]:
    """Return the files with their classes named as in `reference`, where names differ only in case.

    A name is replaced only if the reference lacks it, and only by a name that these files lack.
    """
    theirs, ours = _children(reference), _children(files)
    replaced: dict[tuple[str, ...], tuple[str, ...]] = {(): ()}
    for folders in sorted(ours, key=len):
        known = theirs.get(replaced[folders], set())
        free: dict[str, list[str]] = {}
        for other in known - ours[folders]:
            free.setdefault(other.casefold(), []).append(other)
        for name in sorted(ours[folders]):
            alike = free.get(name.casefold(), [])
            new = alike[0] if name not in known and len(alike) == 1 else name
            if new != name:
                found.note("taken", f"{'/'.join((*folders, name))} ({'/'.join((*replaced[folders], new))})")
            replaced[(*folders, name)] = (*replaced[folders], new)
    return [ClassFile(file.path, replaced[file.folders]) for file in files]


def _children(files: Sequence[ClassFile]) -> dict[tuple[str, ...], set[str]]:
    children: dict[tuple[str, ...], set[str]] = {}
    for folders in {file.folders for file in files}:
        for depth, name in enumerate(folders):
            children.setdefault(folders[:depth], set()).add(name)
    return children
