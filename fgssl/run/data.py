"""The shards that a run reads: where they lie, and whether they are what the run needs."""

from pathlib import Path

from fgssl.data.location import ensure_toy, shards_folder
from fgssl.data.shards import ShardedSplit
from fgssl.errors import DataError
from fgssl.settings.config import Config
from fgssl.store.manifest import MANIFEST, Manifest
from fgssl.store.requirements import unmet
from fgssl.store.run_folder import RunFolder


def packed_shards(config: Config, out: Path) -> Path:
    """Return the folder of shards, after packing the toy set if that is meant and missing."""
    if config.data.embedded:
        return ensure_toy(config.data, out / "data")
    return shards_path(config, out)


def shards_path(config: Config, out: Path) -> Path:
    """Return the folder of shards; of the toy set also where it is not packed yet."""
    return shards_folder(config.data, out / "data")


def require_fit(config: Config, images: ShardedSplit) -> None:
    """Refuse data that lacks what `config` needs."""
    if lacking := unmet(config, images.manifest):
        raise DataError("\n".join(f"{images.folder}: {message}" for message in lacking))


def require_same_data(config: Config, folder: RunFolder, out: Path) -> None:
    """Refuse other shards than the run was trained on; where there are none any more, nothing can be mixed up."""
    shards = Path(config.data.folder).expanduser() if config.data.folder else shards_path(config, out)
    if not (shards / MANIFEST).is_file():
        return
    trained, present = folder.trained(), Manifest.read(shards).version
    if trained is not None and trained.data_version != present:
        raise DataError(
            f"{folder.path}: trained on version {trained.data_version[:12]} of {config.data.dataset}, {shards} holds "
            f"{present[:12]}: give the folder of the same packing as data.folder, or train again with another --out"
        )
