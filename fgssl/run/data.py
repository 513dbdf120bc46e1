"""Shards that a run reads: opening them, and checking that they have what the run needs."""

from pathlib import Path

from fgssl.data.location import ensure_toy, shards_folder
from fgssl.data.shards import ShardedSplit
from fgssl.data.staging import staged
from fgssl.errors import DataError
from fgssl.evaluation.features import Splits
from fgssl.evaluation.measure import check
from fgssl.progress import shown
from fgssl.settings.config import Config
from fgssl.store.files import wait_until_visible
from fgssl.store.manifest import MANIFEST, Manifest
from fgssl.store.requirements import unmet
from fgssl.store.run_folder import RunFolder


def open_splits(config: Config, out: Path) -> tuple[ShardedSplit, ShardedSplit | None]:
    """Return the train split and, if anything is measured, the test split; the toy set is packed if it is missing.

    Raises:
        DataError: The dataset lacks something that `config` needs, or its images cannot be measured.
    """
    shards, wanted = ensure_toy(config.data, out / "data", shown), config.evaluation
    nearby = stage_shards(config, out)
    train = ShardedSplit(nearby, "train", config.data.cache)
    if lacking := unmet(config, train.manifest):
        raise DataError("\n".join(f"{shards}: {message}" for message in lacking))
    if wanted is None:
        return train, None
    test = ShardedSplit(nearby, "test")
    check(wanted, Splits(train=train, test=test, label_level=wanted.label_level, seed=config.seed))
    return train, test


def open_train(config: Config, out: Path) -> ShardedSplit:
    """Return the train split, whose shards another process may just have packed."""
    wait_until_visible(shards_folder(config.data, out / "data") / MANIFEST)
    return ShardedSplit(stage_shards(config, out), "train", config.data.cache)


def stage_shards(config: Config, out: Path) -> Path:
    """Return the folder from which this node reads the shards, which are copied there if `data.stage` is set."""
    shards = shards_folder(config.data, out / "data")
    return shards if config.data.embedded else staged(shards, config.data.stage, shown)


def require_same_data(config: Config, folder: RunFolder, out: Path) -> None:
    """Raise a `DataError` if the shards are not those that the run was trained on; missing shards are accepted."""
    given = config.data.folder
    shards = Path(given).expanduser() if given else shards_folder(config.data, out / "data")
    if not (shards / MANIFEST).is_file():
        return
    trained, present = folder.trained(), Manifest.read(shards).version
    if trained is not None and trained.data_version != present:
        raise DataError(
            f"{folder.path}: trained on version {trained.data_version[:12]} of {config.data.dataset}, but {shards} "
            f"holds {present[:12]}: set data.folder to the shards of that version, or train again with another --out"
        )
