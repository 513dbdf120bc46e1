"""Sources `cifar10` and `cifar100` (Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images).

Both official forms are read. The binary one holds records of 1 label (CIFAR-100: coarse, then fine) and 3 x 32 x 32
bytes; the python one holds pickles, which are read by an unpickler that makes nothing but arrays and plain values.
"""

import codecs
import functools
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgssl.data.source import Sample, Source, SourceDataset, UnreadableImageError
from fgssl.data.sources.encoded_image import png
from fgssl.data.sources.official import Official
from fgssl.errors import DataError
from fgssl.settings.declare import NonNegativeInt, settings
from fgssl.store.manifest import Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 32
_PIXELS = 3 * SIDE * SIDE


@settings
class CIFARSettings:
    """Options of `fgssl pack cifar10` and `fgssl pack cifar100`."""

    accept_counts: bool = False
    """Whether other numbers of images than the official ones are packed."""
    seed: NonNegativeInt = 0
    """Seed of the order in the shards."""


@dataclass(frozen=True)
class _Names:
    """Names of one of the two datasets in its archives, finest level first."""

    name: str
    official: Official
    folders: tuple[str, str]
    """Folders of the binary and of the python archive."""
    splits: dict[str, tuple[str, ...]]
    """Names of the files of each split, without suffix."""
    class_files: tuple[str, ...]
    """File with the names of the classes of each level, in the binary archive."""
    class_keys: tuple[str, ...]
    """Key of the names of the classes of each level, in the python archive."""
    label_keys: tuple[str, ...]
    """Key of the labels of each level, in the python archive."""


_CIFAR10 = _Names(
    name="cifar10",
    official=Official("CIFAR-10", {"train": 50_000, "test": 10_000}, {"class": 10}),
    folders=("cifar-10-batches-bin", "cifar-10-batches-py"),
    splits={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    class_files=("batches.meta.txt",),
    class_keys=("label_names",),
    label_keys=("labels",),
)
_CIFAR100 = _Names(
    name="cifar100",
    official=Official("CIFAR-100", {"train": 50_000, "test": 10_000}, {"fine": 100, "coarse": 20}),
    folders=("cifar-100-binary", "cifar-100-python"),
    splits={"train": ("train",), "test": ("test",)},
    class_files=("fine_label_names.txt", "coarse_label_names.txt"),
    class_keys=("fine_label_names", "coarse_label_names"),
    label_keys=("fine_labels", "coarse_labels"),
)


def _read(names: _Names, root: Path, options: CIFARSettings) -> SourceDataset:
    """List the images of the binary or the python archive; raise a `DataError` with all faults."""
    folder, is_binary = _folder(names, root)
    faults: list[str] = []
    classes = _binary_classes(names, folder, faults) if is_binary else _python_classes(names, folder, faults)
    levels = tuple(map(Level, names.official.classes, classes))
    splits: dict[str, list[Callable[[], Sample]]] = {}
    for split, files in names.splits.items():
        recipes = splits[split] = []
        for file in files:
            labels = _labels(names, folder / (f"{file}.bin" if is_binary else file), is_binary, faults)
            for row, of_row in enumerate(labels):
                if any(label >= len(level.classes) for label, level in zip(of_row, levels, strict=True)) and not faults:
                    faults.append(f"{folder / file}: image {row} has labels {of_row}, which have no names")
                path = folder / (f"{file}.bin" if is_binary else file)
                source_id = f"{split}/{len(recipes):05d}"  # the same in both archives
                recipes.append(partial(_sample, path, is_binary, row, of_row, source_id))
    names.official.raise_faults(faults)
    dataset = SourceDataset(names.name, names.name, {"seed": options.seed}, levels, splits, options.seed)
    return names.official.checked(dataset, options.accept_counts)


def _folder(names: _Names, root: Path) -> tuple[Path, bool]:
    """Return the folder of the archive, and whether it is the binary one, which goes first."""
    marks = (f"{names.splits['test'][0]}.bin", names.splits["test"][0])
    for mark, name in zip(marks, names.folders, strict=True):
        for place in (root, root / name):
            if (place / mark).is_file():
                return place, mark == marks[0]
    return names.official.folder(root, marks, names.folders), True  # raises


def _binary_classes(names: _Names, folder: Path, faults: list[str]) -> list[tuple[str, ...]]:
    classes = []
    for file in names.class_files:
        try:
            lines = (folder / file).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{folder / file}: cannot be read: {getattr(error, 'strerror', None) or error}")
            lines = []
        classes.append(tuple(lines))
    return classes


def _python_classes(names: _Names, folder: Path, faults: list[str]) -> list[tuple[str, ...]]:
    path = folder / ("batches.meta" if "label_names" in names.class_keys else "meta")
    content = _content(path, names.class_keys, faults)
    return [tuple(map(str, content.get(key, ()))) for key in names.class_keys]


def _labels(names: _Names, path: Path, is_binary: bool, faults: list[str]) -> Sequence[tuple[int, ...]]:
    """Return the labels of all images of a file, finest level first."""
    import numpy as np

    number = len(names.label_keys)
    if is_binary:
        size = number + _PIXELS
        try:
            if path.stat().st_size % size:
                raise ValueError(f"it must hold records of {size} bytes, but has {path.stat().st_size} bytes")
            records: NDArray[np.uint8] = np.memmap(path, np.uint8, "r").reshape(-1, size)
        except (OSError, ValueError) as error:
            faults.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
            return []
        return [tuple(row) for row in records[:, :number][:, ::-1].tolist()]
    content = _content(path, ("data", *names.label_keys), faults)
    if not content:
        return []
    labels = list(zip(*(map(int, content[key]) for key in names.label_keys), strict=True))
    data = content["data"]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (len(labels), _PIXELS):
        faults.append(f"{path}: must hold one row of {_PIXELS} bytes for each of its {len(labels)} labels")
    return labels


def _pixels(path: Path, is_binary: bool, row: int, num_levels: int) -> bytes:
    if not is_binary:
        return _unpickled(path)["data"][row].tobytes()
    with path.open("rb") as file:
        file.seek(row * (num_levels + _PIXELS) + num_levels)
        return file.read(_PIXELS)


def _sample(path: Path, is_binary: bool, row: int, labels: tuple[int, ...], source_id: str) -> Sample:
    import numpy as np
    from PIL import Image

    try:
        planes = np.frombuffer(_pixels(path, is_binary, row, len(labels)), np.uint8).reshape(3, SIDE, SIDE)
    except (OSError, ValueError) as error:
        raise UnreadableImageError(f"{path.name}: image {row}: {error}") from error
    return Sample(png(Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))), labels, source_id)


# ------------------------------------------------------------------------------------------- pickles


def _content(path: Path, keys: Sequence[str], faults: list[str]) -> dict[str, Any]:
    """Return what a pickle holds, or nothing if it cannot be read or lacks one of the keys."""
    try:
        content = _unpickled(path)
        if lacking := [key for key in keys if key not in content]:
            raise ValueError(f"it lacks {', '.join(lacking)}")
    except Exception as error:  # damaged pickles raise many types
        faults.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
        return {}
    return content


@functools.lru_cache(maxsize=7)  # the 5 + 1 files of CIFAR-10, 180 MB, whose images are packed in random order
def _unpickled(path: Path) -> dict[str, Any]:
    content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not a dictionary")
    return content


class _Unpickler(pickle.Unpickler):
    """Unpickler of arrays of numbers, texts, lists and dictionaries, which calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np

        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _new_array
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise DataError(f"its pickle calls {module}.{name}, which no CIFAR archive does: do not trust this file")


def _new_array(kind: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    import numpy as np

    return np.empty(shape, dtype)


def _latin1(text: str, encoding: str) -> bytes:
    return codecs.encode(text, "latin1")


def _source(names: _Names, title: str) -> Source:
    binary, python = names.folders
    archives = [f"cifar-{names.name.removeprefix('cifar')}-{kind}.tar.gz" for kind in ("binary", "python")]
    return Source(
        name=names.name,
        summary=f"{title}, from its binary or its python archive",
        settings=CIFARSettings,
        levels=tuple(names.official.classes),
        how_to_get=f"""\
The archive is at https://www.cs.toronto.edu/~kriz/cifar.html, in a binary form and in one for Python; either will do.
The page gives no license; cite Krizhevsky 2009 (Learning Multiple Layers of Features from Tiny Images).

    mkdir -p IMAGES && tar -xzf {archives[0]} -C IMAGES  # {binary}
    mkdir -p IMAGES && tar -xzf {archives[1]} -C IMAGES  # {python}

Images are stored as PNG, without loss.""",
        read=partial(_read, names),
    )


CIFAR10 = _source(_CIFAR10, "32-pixel images of 10 classes")
CIFAR100 = _source(_CIFAR100, "32-pixel images of 100 classes in 20 groups")
