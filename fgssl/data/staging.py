"""Staging: the copy of packed shards on a disk of the node, which its processes make together."""

import contextlib
import hashlib
import itertools
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from fgssl.errors import DataError, UserError
from fgssl.progress import Track, silent
from fgssl.store.files import lock, unreadable, warn_once, write_atomically
from fgssl.store.manifest import MANIFEST, Manifest, Shard

_CHUNK = 4 * 2**20
_PARTIAL = ".partial"


class _NotStagedError(Exception):
    """Reason why a dataset cannot be copied to this node."""


def staged(shards: Path, stage: str | None, track: Track = silent) -> Path:
    """Return the folder from which this node reads `shards`: a copy in the folder `stage`, or `shards` themselves.

    One process of the node copies while the others wait. The SHA-256 of each file is verified before the file gets its
    name, so a later process continues where a killed one stopped. If a copy is impossible, a warning gives the reason.

    Raises:
        DataError: A file in `shards` is damaged or cannot be read.
    """
    if stage is None:
        return shards
    manifest = Manifest.read(shards)
    try:
        copy = _expanded(stage) / f"fgssl-{manifest.version[:16]}"
        with _locked(copy):
            _complete(copy, shards, manifest, track)
        return copy
    except _NotStagedError as error:
        warn_once(f"data.stage: {stage}: {error}: images are read from {shards}")
        return shards


def _expanded(stage: str) -> Path:
    """Return the folder `stage` with the variables of this process in place of their names."""
    unset = [name for name in re.findall(r"\$\w+|\$\{\w+\}", stage) if os.path.expandvars(name) in ("", name)]
    if unset:
        raise _NotStagedError(f"{' and '.join(unset)} is not set on this machine")
    return Path(os.path.expandvars(stage)).expanduser()


@contextlib.contextmanager
def _locked(copy: Path) -> Iterator[None]:
    """Create the folder of the copy, and keep other processes of the node out of it within the context."""
    with contextlib.ExitStack() as stack:
        with _writing():
            copy.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((copy / "lock").open("a", encoding="utf-8"))
            if not lock(file):
                print(
                    f"{copy}: waiting for another process, which copies the shards there", file=sys.stderr, flush=True
                )
                lock(file, patience_s=math.inf)
        yield


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Raise a `_NotStagedError` if the context fails to write; a `DataError` of the shards passes."""
    try:
        yield
    except DataError:
        raise
    except (OSError, UserError) as error:
        cause = error.__cause__ if isinstance(error, UserError) else error
        raise _NotStagedError(f"cannot be written ({getattr(cause, 'strerror', None) or error})") from None


def _complete(copy: Path, shards: Path, manifest: Manifest, track: Track) -> None:
    """Copy the shards that are missing, and last of all the manifest."""
    every = list(itertools.chain.from_iterable(manifest.splits.values()))
    with _writing():
        for partial in copy.glob(f"*{_PARTIAL}"):
            partial.unlink()
        missing = [shard for shard in every if not _is_whole(copy / shard.file, shard)]
        free = shutil.disk_usage(copy).free
    needed = sum(shard.bytes for shard in missing)
    if needed > free:
        raise _NotStagedError(f"{needed / 1e9:.3g} GB are needed, but {free / 1e9:.3g} GB are free")
    with track(f"copy {shards} to {copy}", len(missing), "shards") as advance:
        for shard in missing:
            _copy(shards / shard.file, copy / shard.file, shard)
            advance(1)
    with _writing():
        write_atomically(copy / MANIFEST, manifest.to_json())


def _is_whole(file: Path, shard: Shard) -> bool:
    return file.is_file() and file.stat().st_size == shard.bytes


def _copy(source: Path, target: Path, shard: Shard) -> None:
    """Copy one shard, which gets its name when it is complete, has the right hash and is on the disk."""
    partial = target.with_name(target.name + _PARTIAL)
    digest = hashlib.sha256()
    try:
        with _writing(), partial.open("wb") as file:
            for chunk in _chunks(source):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != shard.sha256:
            raise DataError(
                f"{source}: SHA-256 is {digest.hexdigest()}, but {shard.sha256} in the manifest: the shard is damaged; "
                "copy it again, or pack the dataset again"
            )
        with _writing():
            partial.replace(target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _chunks(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise DataError(unreadable(source, error)) from None
