"""Location of a dataset's packed shards; the built-in dataset `toy` is drawn there on its first use.

The module imports neither h5py, numpy nor Pillow, which planning a sweep does not need.
"""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fgssl.data.sources import how_to_pack
from fgssl.data.sources.toy_content import LEVELS, SPECIES, Nuisances
from fgssl.errors import DataError, SettingsError, UserError, alternatives, nearest
from fgssl.progress import Track, silent
from fgssl.settings.data import DataSettings, ToySettings
from fgssl.settings.declare import NO_NAME
from fgssl.settings.layers import Layer
from fgssl.store.files import unreadable
from fgssl.store.manifest import FORMAT, MANIFEST, Manifest, Shard

DRAWING = 1
"""Version of the toy set's drawings. Raise it if `fgssl.data.sources.toy*` draw something else, so that shards of older
drawings are not used."""


def shards_folder(data: DataSettings, data_root: Path) -> Path:
    """Return the folder of shards: `data.folder`, or a folder below `data_root` for the toy set, packed or not.

    Raises:
        DataError: `data.folder` is not set, does not exist, may not be read or holds another dataset.
    """
    if data.embedded:
        content = json.dumps([DRAWING, FORMAT, data.toy.content], sort_keys=True)
        return data_root / f"toy-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if data.folder is None:
        raise DataError(
            f"data.folder: is empty, but dataset {data.dataset!r} is not the built-in one (toy): set data.folder to "
            f"its packed shards; {how_to_pack(data.dataset, 'FOLDER')}"
        )
    folder = Path(data.folder).expanduser()
    try:
        packed = (folder / MANIFEST).exists()
    except PermissionError as error:  # a folder that may not be entered
        raise DataError(f"data.folder: {unreadable(folder, error)}") from None
    if not packed:
        raise DataError(f"data.folder: {data.folder} {_not_packed(data.dataset, folder)}")
    name = Manifest.read(folder).dataset
    if name != data.dataset:
        raise DataError(
            f"data.folder: {folder} holds dataset {name!r}, but data.dataset is {data.dataset!r}: change one of them"
        )
    return folder


def _not_packed(dataset: str, folder: Path) -> str:
    """Return why `folder` is not one of packed shards, and what to do."""
    how = how_to_pack(dataset, str(folder))
    if not folder.exists():
        return f"does not exist: {alternatives(folder)}" + ("" if nearest(folder) else f"; {how}")
    if inside := sorted(str(manifest.parent) for manifest in folder.glob(f"*/{MANIFEST}")):
        return f"holds no packed dataset itself ({MANIFEST} is missing): give one of its folders: {', '.join(inside)}"
    return f"holds no packed dataset ({MANIFEST} is missing); {how}"


def ensure_toy(data: DataSettings, data_root: Path, track: Track = silent) -> Path:
    """Return `shards_folder`, and pack the built-in dataset if it is missing; two processes may do so at once."""
    folder = shards_folder(data, data_root)
    if data.embedded and not (folder / MANIFEST).exists():
        import fgssl.data.sources.toy as toy  # heavy imports, needed once
        from fgssl.data.packing import DestinationExistsError, PackingInProgressError, pack

        while not (folder / MANIFEST).exists():
            try:
                pack(toy.read(data.toy), folder, track=track)
            except PackingInProgressError:
                time.sleep(0.1)
            except DestinationExistsError:
                if not (folder / MANIFEST).exists():  # otherwise another process has just packed it
                    raise
    return folder


@contextlib.contextmanager
def levels_named(settings: Callable[[], Mapping[str, object]]) -> Iterator[None]:
    """Add the label levels of the data to a `SettingsError` about a level that was given by name.

    `settings` returns the partial config that holds `data`, as it is written.
    """
    try:
        yield
    except SettingsError as error:
        problems = list(error.problems)
        named = [index for index, problem in enumerate(problems) if NO_NAME in problem.message]
        if not named:
            raise
        with contextlib.suppress(UserError):  # data that cannot be read is no reason to hide the first error
            data = Layer(settings())
            folder = data.at("data.folder")
            manifest = Manifest.read(Path(str(folder)).expanduser()) if folder else toy_manifest(ToySettings())
            levels = f"{manifest.listed_levels}{f' ({folder}/{MANIFEST})' if folder else ''}"
            for index in named if folder or data.at("data.dataset", "toy") == "toy" else ():
                message = f"{problems[index].message}; {levels}"
                problems[index] = dataclasses.replace(problems[index], message=message)
        raise SettingsError(problems) from None


def toy_manifest(toy: ToySettings) -> Manifest:
    """Return the built-in dataset's manifest without drawing its images; sizes and hashes of shards are left empty."""
    per_species = {"train": toy.train_images_per_species, "test": toy.test_images_per_species}
    images = {split: count * len(SPECIES) for split, count in per_species.items()}
    return Manifest(
        dataset="toy",
        source="toy",
        arguments=toy.content,
        levels=LEVELS,
        splits={split: (Shard(f"{split}-00000.h5", count, 0, ""),) for split, count in images.items()},
        class_counts={
            split: tuple((count // len(level.classes),) * len(level.classes) for level in LEVELS)
            for split, count in images.items()
        },
        attributes=tuple(sorted(field.name for field in dataclasses.fields(Nuisances))),
        across_groups=dict.fromkeys(images, (0,) * len(LEVELS)),
        masks=toy.draw_masks,
    )
