"""Where the packed shards of a dataset lie.

Light to import: planning a sweep needs neither h5py nor numpy.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from fgssl.errors import DataError
from fgssl.settings.data import DataSettings, ToySettings
from fgssl.store.manifest import FORMAT, MANIFEST, Manifest

DRAWING = 1
"""Version of the toy set's drawings; raised when `fgssl.data.sources.toy*` draw something else, so that no old shards
are taken."""


def shards_folder(data: DataSettings, data_root: Path, how_to_pack: Callable[[str, str], str]) -> Path:
    """Return the folder of shards: `data.folder`, or for the toy set one below `data_root` that may not be packed yet.

    Raises a `DataError` if the folder is not set, is missing or holds another dataset; `how_to_pack(dataset, folder)`
    is its advice on what to do: `fgssl.data.sources.how_to_pack`.
    """
    if data.folder is None:
        if data.dataset == "toy":
            return data_root / f"toy-{_toy_hash(data.toy)}"
        raise DataError(
            f"data.folder: is empty, but dataset {data.dataset!r} is not the embedded one (toy): set data.folder to "
            f"its packed shards; {how_to_pack(data.dataset, 'FOLDER')}"
        )
    folder = Path(data.folder).expanduser()
    if not (folder / MANIFEST).exists():
        raise DataError(
            f"data.folder: {folder} holds no packed dataset ({MANIFEST} is missing); "
            + how_to_pack(data.dataset, str(folder))
        )
    name = Manifest.read(folder).dataset
    if name != data.dataset:
        raise DataError(
            f"data.folder: {folder} holds dataset {name!r}, but data.dataset is {data.dataset!r}: change one of them"
        )
    return folder


def _toy_hash(toy: ToySettings) -> str:
    content = [DRAWING, FORMAT, dataclasses.asdict(toy)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
