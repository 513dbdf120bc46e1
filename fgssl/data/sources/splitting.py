"""Splits that fgssl makes where a source has none.

An image is drawn by its name, so that adding one image to a class moves at most one other to the other split. Images of
one group, and files with equal bytes, stay together.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from fgssl.data.sources.labeled_files import LabeledFile
from fgssl.store.manifest import listed

_TAIL_BYTES = 4096


def split(
    files: Sequence[LabeledFile], test_fraction: float, seed: int, faults: list[str]
) -> tuple[dict[str, list[LabeledFile]], list[str]]:
    """Return the splits `train` and `test`, and remarks about files with equal bytes.

    Each class has about `test_fraction` of its images in `test`, at least one and not all. Classes of which that is
    impossible are appended to `faults`.
    """
    equal = equal_files([file.path for file in files])
    units = _units(files, equal, seed)
    images = Counter(file.classes[0] for file in files)
    wanted = {name: min(max(1, round(test_fraction * number)), number - 1) for name, number in images.items()}
    in_test: Counter[str] = Counter()
    test: set[int] = set()

    def keeps_train(unit: list[int]) -> bool:
        return all(in_test[name] + number < images[name] for name, number in _classes(unit, files).items())

    def take(unit: list[int]) -> None:
        in_test.update(_classes(unit, files))
        test.update(unit)

    for unit in units:
        nearer = all(in_test[name] + number / 2 <= wanted[name] for name, number in _classes(unit, files).items())
        if nearer and keeps_train(unit):
            take(unit)
    without_test: dict[str, list[list[int]]] = {name: [] for name in sorted(images.keys() - in_test.keys())}
    for unit in units:
        for name in _classes(unit, files).keys() & without_test.keys():
            without_test[name].append(unit)
    for name, of_class in without_test.items():  # its groups are all larger than the share
        possible = [unit for unit in of_class if keeps_train(unit)]
        if in_test[name]:  # with a group of another such class
            continue
        if possible:
            take(min(possible, key=len))
        else:
            faults.append(_inseparable(name, [files[number] for unit in of_class for number in unit]))
    parts = {
        "train": [file for number, file in enumerate(files) if number not in test],
        "test": [file for number, file in enumerate(files) if number in test],
    }
    return parts, _remarks(files, equal)


def equal_files(paths: Sequence[Path]) -> list[list[int]]:
    """Return the numbers of the files that have equal bytes, as one list for each content that occurs more than once.

    Only files of equal size and with equal last bytes are read as a whole. Files that cannot be read equal no other.
    """
    candidates = [list(range(len(paths)))]
    keys: tuple[Callable[[Path], Hashable], ...] = (os.path.getsize, _tail, _digest)
    for key in keys:
        candidates = [part for numbers in candidates for part in _divided(numbers, paths, key)]
    return candidates


def _divided(numbers: Sequence[int], paths: Sequence[Path], key: Callable[[Path], Hashable]) -> list[list[int]]:
    parts: dict[Hashable, list[int]] = {}
    for number in numbers:
        try:
            parts.setdefault(key(paths[number]), []).append(number)
        except OSError:
            continue  # packing reports it
    return [part for found, part in parts.items() if found and len(part) > 1]  # empty files are no equal images


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(_TAIL_BYTES, os.path.getsize(path)), os.SEEK_END)
        return hashlib.sha256(file.read()).digest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _units(files: Sequence[LabeledFile], equal: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
    """Return the numbers of the files that must stay together, in the random order in which units are drawn."""
    parent = list(range(len(files)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    first_of: dict[str, int] = {}
    for number, file in enumerate(files):
        if file.group:
            parent[root(number)] = root(first_of.setdefault(file.group, number))
    for numbers in equal:
        for number in numbers[1:]:
            parent[root(number)] = root(numbers[0])
    units: dict[int, list[int]] = {}
    for number in range(len(files)):
        units.setdefault(root(number), []).append(number)
    return sorted(units.values(), key=lambda unit: min(_key(files[number], seed) for number in unit))


def _key(file: LabeledFile, seed: int) -> bytes:
    name = f"group {file.group}" if file.group else f"image {file.source_id}"
    return hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest()


def _classes(unit: Sequence[int], files: Sequence[LabeledFile]) -> Counter[str]:
    return Counter(files[number].classes[0] for number in unit)


def _inseparable(name: str, together: Sequence[LabeledFile]) -> str:
    """Return the fault of a class whose images, all among `together`, cannot be divided."""
    files = [file for file in together if file.classes[0] == name]
    if len(files) == 1:
        return f"{files[0].path}: class {name} has one image; train and test need one each: add one, or remove it"
    return (
        f"{files[0].path}: class {name} has {len(files)} images, which belong to one group or have equal bytes; "
        "train and test need one each: add others, or remove them"
    )


def _remarks(files: Sequence[LabeledFile], equal: Sequence[Sequence[int]]) -> list[str]:
    remarks = []
    if equal:
        names = [", ".join(files[number].source_id for number in numbers) for numbers in equal]
        same = "that occurs several times; its files are kept in one split"
        remarks.append(listed(names, f"image {same}", "images that occur several times; their files share a split"))
    return remarks
