"""Where the packed shards of a dataset lie; the embedded set is packed on first use.

Light to import: planning a sweep needs neither h5py nor numpy.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from fgssl.errors import DataError
from fgssl.settings.data import DataSettings, ToySettings
from fgssl.store.manifest import FORMAT, MANIFEST, Level, Manifest, Shard

DRAWING = 1
"""Of the toy set; raised when `fgssl.data.sources.toy*` draw something else, so that no old shards are taken."""


def shards_folder(data: DataSettings, data_root: Path) -> Path:
    """The folder of shards: `data.folder`, or for the toy set one below `data_root` that may not be packed yet.

    Raises a `DataError` that says what to do where the folder is not set, is missing or holds another dataset.
    """
    if data.folder is None:
        if data.dataset == "toy":
            return data_root / f"toy-{_toy_hash(data.toy)}"
        raise DataError(
            f"data.folder: is empty, but dataset {data.dataset!r} is not the embedded one (toy): set data.folder to "
            f"its packed shards; {_how_to_pack(data.dataset, 'FOLDER')}"
        )
    folder = Path(data.folder).expanduser()
    if not (folder / MANIFEST).exists():
        raise DataError(
            f"data.folder: {folder} holds no packed dataset ({MANIFEST} is missing); "
            + _how_to_pack(data.dataset, str(folder))
        )
    name = Manifest.read(folder).dataset
    if name != data.dataset:
        raise DataError(
            f"data.folder: {folder} holds dataset {name!r}, but data.dataset is {data.dataset!r}: change one of them"
        )
    return folder


def ensure_toy(data: DataSettings, data_root: Path) -> Path:
    """Pack the embedded set below `data_root` if it is missing. Two processes may do so at once."""
    if data.dataset != "toy" or data.folder is not None:
        raise ValueError("only the embedded set without a folder of its own is packed on first use")
    folder = shards_folder(data, data_root)
    if not (folder / MANIFEST).exists():
        import fgssl.data.sources.toy as toy  # heavy imports, needed once
        from fgssl.data.shards import DestinationExistsError, pack

        try:
            pack(toy.source(data.toy), folder)
        except DestinationExistsError:
            if not (folder / MANIFEST).exists():  # not the other process' work
                raise
    return folder


def toy_manifest(toy: ToySettings) -> Manifest:
    """What the embedded set's manifest will say of its images, without drawing them: its shards hold nothing yet."""
    from fgssl.data.sources.toy_fungus import GENERA, SPECIES  # they import numpy and Pillow
    from fgssl.data.sources.toy_scene import Nuisances

    levels = (Level("species", SPECIES), Level("genus", tuple(genus.name for genus in GENERA)))
    per_species = {"train": toy.train_images_per_species, "test": toy.test_images_per_species}
    images = {split: count * len(SPECIES) for split, count in per_species.items()}
    return Manifest(
        dataset="toy",
        source="toy",
        arguments=dataclasses.asdict(toy),
        levels=levels,
        splits={split: (Shard(f"{split}-00000.h5", count, 0, ""),) for split, count in images.items()},
        class_counts={
            split: tuple((count // len(level.classes),) * len(level.classes) for level in levels)
            for split, count in images.items()
        },
        attributes=tuple(sorted(field.name for field in dataclasses.fields(Nuisances))),
    )


def _toy_hash(toy: ToySettings) -> str:
    content = [DRAWING, FORMAT, dataclasses.asdict(toy)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _how_to_pack(dataset: str, folder: str) -> str:
    if dataset == "toy":
        return f"pack it with `fgssl pack toy {folder}`"
    if dataset == "gtsrb":
        return f"pack it with `fgssl pack gtsrb IMAGES {folder}`"
    return (
        f"`fgssl pack` has no source named {dataset!r} yet: arrange the images as IMAGES/train/CLASS/*.jpg and "
        "IMAGES/test/CLASS/*.jpg (for two levels of labels IMAGES/train/GENUS/SPECIES/*.jpg, likewise in test), then "
        f"pack them with `fgssl pack folder IMAGES {folder} name={dataset}`"
    )
