"""Hidden folder beside a destination, in which one process packs and which an interrupted packing leaves behind.

.NAME.packing/lock              locked by the process that packs
.NAME.packing/plan              dataset and settings, as JSON
.NAME.packing/shards/           finished shards; renamed to NAME at the end
.NAME.packing/records/00000     record of each finished shard, in the order in which they were written
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import IO

from pydantic import JsonValue

from fgssl.errors import DataError
from fgssl.store.files import file_sha256, read_or_warn
from fgssl.store.manifest import Shard


class DestinationExistsError(DataError):
    """Destination of `pack` that exists already."""


class PackingInProgressError(DataError):
    """Destination that another process packs at this moment."""


@dataclass(frozen=True)
class ShardRecord:
    """Finished shard, with all that a resumed packing needs to go on after it."""

    split: str
    shard: Shard
    made_of: str
    """SHA-256 over the sources of its images, or empty if their functions cannot be compared."""
    class_counts: tuple[tuple[int, ...], ...]
    """Number of images of each class at each level."""
    attributes: tuple[str, ...]
    groups: Mapping[str, int]
    """Numbers of the named groups that begin in this shard."""
    num_groups: int
    """Number of groups in this and all earlier shards."""
    findings: Mapping[str, tuple[int, tuple[str, ...]]]
    """Number of images and first examples, by finding."""
    digests: str
    """First 8 bytes of the SHA-256 of each source file, in hexadecimal, one after the other."""
    left_out: tuple[str, ...]
    """Reasons why images among these could not be packed."""
    max_megapixels: float
    """Size above which images were refused."""


class PackingFolder:
    """Folder in which this process alone packs, as a context, at the end of which it is removed.

    After an error or an interruption it stays with its finished shards, if there are any, and `remark` gets a text.
    """

    def __init__(self, destination: Path, plan: Mapping[str, JsonValue], remark: Callable[[str], object]) -> None:
        self.destination = destination
        self.path = destination.with_name(f".{destination.name}.packing")
        self.shards, self._records, self._plan = self.path / "shards", self.path / "records", self.path / "plan"
        self.discarded = ""
        """Remark on the shards of a packing with another plan, if there were any."""
        self._lock: IO[str] | None = None
        self._remark = remark
        with writing(destination):
            self._lock = _locked(self.path / "lock", destination)
            try:
                refuse_existing(destination)
                self._start(json.loads(json.dumps(plan)))
                for folder in (self.shards, self._records):
                    folder.mkdir(exist_ok=True)
            except BaseException as error:
                self.__exit__(type(error))
                raise

    def __enter__(self) -> "PackingFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        text = ""
        if kind is None or not self.shards.exists():  # published
            self._remove()
        elif self._record(0).is_file():
            advice = "the same command goes on after them; delete it if you do not want that"
            text = f"{self.path} keeps the finished shards: {advice}"
        else:
            self._remove()
            if kind in (KeyboardInterrupt, SystemExit):
                text = f"nothing is kept, since no shard was finished: {self.path} is removed"
        if self._lock is not None:
            self._lock.close()
        with contextlib.suppress(OSError):  # of a closed stderr; it must not hide the error that ends the packing
            if text:
                self._remark(text)

    def _start(self, plan: Mapping[str, JsonValue]) -> None:
        """Discard what a packing with another plan has left, and note what differs."""
        earlier = read_or_warn(self._plan, dict[str, JsonValue], advice="everything is packed again")
        if earlier == plan:
            return
        number = sum(1 for _ in self._records.glob("*"))
        if earlier and number:
            reasons = [
                f"{key} was {json.dumps(earlier.get(key))} and is {json.dumps(plan.get(key))}"
                for key in dict.fromkeys((*earlier, *plan))
                if earlier.get(key) != plan.get(key)
            ]
            self.discarded = f"discards {shards(number)} of an interrupted packing, since {', and '.join(reasons)}"
        self._clear()
        write(self._plan, json.dumps(plan).encode())

    def finished(self) -> list[ShardRecord]:
        """Return the records of an earlier packing, up to the first shard that is missing or damaged."""
        records: list[ShardRecord] = []
        with contextlib.suppress(FileNotFoundError):
            while record := read_or_warn(self._record(len(records)), ShardRecord, advice="its shard is packed again"):
                if file_sha256(self.shards / record.shard.file) != record.shard.sha256:
                    break
                records.append(record)
        return records

    def _record(self, number: int) -> Path:
        return self._records / f"{number:05d}"

    def discard_after(self, records: Sequence[ShardRecord]) -> int:
        """Remove all shards and records but the first ones, which are `records`; return how many records there were."""
        discarded = 0
        valid = {self._record(number) for number in range(len(records))}
        valid |= {self.shards / record.shard.file for record in records}
        for file in (*self._records.iterdir(), *self.shards.iterdir()):
            if file not in valid:
                discarded += file.parent == self._records
                file.unlink()
        return discarded

    def add(self, number: int, record: ShardRecord, content: bytes) -> None:
        """Write a finished shard, and then the record that makes it one."""
        with writing(self.destination):
            write(self.shards / record.shard.file, content)
            if record.made_of:
                write(self._record(number), json.dumps(asdict(record)).encode())

    def publish(self) -> None:
        """Rename the folder of shards to the destination."""
        with writing(self.destination):
            try:
                self.shards.rename(self.destination)
            except OSError:
                refuse_existing(self.destination)  # another process was faster
                raise

    def _clear(self) -> None:
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != "lock":
                entry.unlink()

    def _remove(self) -> None:
        """Remove the folder; the lock is the last file, so that nobody else packs in a folder that is being removed."""
        with contextlib.suppress(OSError):
            self._clear()
            (self.path / "lock").unlink()
            self.path.rmdir()


def _locked(path: Path, destination: Path) -> IO[str]:
    """Return the lock file, locked by this process.

    Raises:
        PackingInProgressError: Another process has locked it.
        DataError: The file system has no locks.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+", encoding="utf-8")
        except FileNotFoundError:  # another process has just removed the folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise PackingInProgressError(
                f"{destination}: {holder} is packing there at this moment: wait for it, or choose another folder"
            ) from None
        except OSError as error:
            file.close()
            raise DataError(
                f"{path}: this file system has no file locks ({error.strerror}): pack on another one, and copy the "
                "folder"
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
                return file
        file.close()


def shards(number: int) -> str:
    """Return a number of shards as messages give it."""
    return "1 shard" if number == 1 else f"{number} shards"


def refuse_existing(destination: Path) -> None:
    """Raise a `DestinationExistsError` unless the destination is missing or an empty folder."""
    with writing(destination):
        if destination.is_dir() and not any(destination.iterdir()):
            return
        exists = destination.exists() or destination.is_symlink()
    if exists:
        raise DestinationExistsError(
            f"{destination}: exists already and is never overwritten: choose another folder, or remove it first"
        )


@contextlib.contextmanager
def writing(destination: Path) -> Iterator[None]:
    """Turn an `OSError` in this context into a `DataError` with advice on the destination."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{destination}: cannot be written ({error.strerror or error}); free space, correct the permissions, or "
            "choose another folder"
        ) from error


def write(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk; it has its name once it is whole."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def source_of(function: Callable[[], object]) -> str:
    """Return a text that is equal for equal sources of an image, with size and time of its files; empty if unknown."""
    if not isinstance(function, partial) or not isinstance(function.func, FunctionType):
        return ""
    name = f"{function.func.__module__}.{function.func.__qualname__}"
    described = _described((function.args, tuple(function.keywords.items())))
    return "" if "<" in name or described is None else f"{name}{described}"


def _described(value: object) -> str | None:
    """Return a text for an argument, or None if equal texts would not mean equal arguments."""
    if isinstance(value, Path):
        try:
            state = value.stat()
        except OSError:
            return repr(value)
        return f"{value!r}:{state.st_size}:{state.st_mtime_ns}"
    if value is None or isinstance(value, str | int | float | bytes):
        return repr(value)
    parts: Sequence[object]
    if isinstance(value, tuple | list):
        parts = value
    elif isinstance(value, Mapping):
        parts = tuple(value.items())
    elif is_dataclass(value) and not isinstance(value, type):
        parts = (type(value).__qualname__, *(getattr(value, field.name) for field in fields(value)))
    else:
        return None
    described = [text for part in parts if (text := _described(part)) is not None]
    return f"({','.join(described)})" if len(described) == len(parts) else None


def combined(sources: Sequence[str]) -> str:
    """Return the SHA-256 over the sources of the images of a shard; empty if one is unknown."""
    return hashlib.sha256("\n".join(sources).encode(errors="surrogateescape")).hexdigest() if all(sources) else ""
