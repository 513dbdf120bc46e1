"""The embedded set `toy`: drawn and packed on its first use, and known before.

Light to import: planning a sweep needs neither h5py nor Pillow.
"""

import dataclasses
from pathlib import Path

from fgssl.data.sources import how_to_pack
from fgssl.data.sources.toy_content import LEVELS, SPECIES, Nuisances
from fgssl.settings.data import DataSettings, ToySettings
from fgssl.store.location import shards_folder
from fgssl.store.manifest import MANIFEST, Manifest, Shard


def ensure_toy(data: DataSettings, data_root: Path) -> Path:
    """Return the folder of the embedded set below `data_root`, packed now if missing; two processes may do so."""
    if data.dataset != "toy" or data.folder is not None:
        raise ValueError("only the embedded set without a folder of its own is packed on first use")
    folder = shards_folder(data, data_root, how_to_pack)
    if not (folder / MANIFEST).exists():
        import fgssl.data.sources.toy as toy  # heavy imports, needed once
        from fgssl.data.shards import DestinationExistsError, pack

        try:
            pack(toy.read(data.toy), folder)
        except DestinationExistsError:
            if not (folder / MANIFEST).exists():  # not the other process' work
                raise
    return folder


def toy_manifest(toy: ToySettings) -> Manifest:
    """Return what the embedded set's manifest will say of its images, without drawing them: its shards are empty."""
    per_species = {"train": toy.train_images_per_species, "test": toy.test_images_per_species}
    images = {split: count * len(SPECIES) for split, count in per_species.items()}
    return Manifest(
        dataset="toy",
        source="toy",
        arguments=dataclasses.asdict(toy),
        levels=LEVELS,
        splits={split: (Shard(f"{split}-00000.h5", count, 0, ""),) for split, count in images.items()},
        class_counts={
            split: tuple((count // len(level.classes),) * len(level.classes) for level in LEVELS)
            for split, count in images.items()
        },
        attributes=tuple(sorted(field.name for field in dataclasses.fields(Nuisances))),
    )
