"""Files that several processes share: atomic writes, typed records, locks, hashes, and waiting for visibility."""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import ValidationError

from fgssl.errors import DamagedRecordError, UserError
from fgssl.settings.declare import adapter

T = TypeVar("T")

_VISIBLE_WITHIN_S = 60.0

_READING_ADVICE = {
    errno.EACCES: "ask the owner of the files for the permission to read them, such as `chmod -R a+rX` on their folder",
    errno.ENOENT: "the folder is incomplete: copy it again with all its files, or pack the dataset again",
    errno.ESTALE: "the file was replaced or deleted on its server while it was in use: start again",
    errno.EMFILE: "raise the limit of open files of a process (`ulimit -n`)",
    errno.ENFILE: "this machine has too many open files: end other processes, or take another machine",
}
"""Advice on files of a dataset that cannot be read, by the number of the error."""


def write_atomically(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write a file so that a reader sees either all of it or nothing; raise a `UserError` if that fails.

    The content is written beside and renamed. `durable` content is flushed to the disk first, to outlive a crash.
    Text is written as UTF-8; bytes of a path that are not UTF-8 stay what they are.
    """
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # on a read-only file system even a missing one
            temporary.unlink()
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def read_record(
    path: Path,
    kind: type[T],
    *,
    schema: int | None = None,
    advice: str = "restore the file, or delete it so that it is written anew",
) -> T | None:
    """Return the record in a file of JSON, as `record_json` writes it, or None if there is no such file.

    `kind` is a dataclass, whose file may have further keys unless it forbids them, or a type such as `float`. Raise a
    `DamagedRecordError` if the file is damaged, has another form, or has another `schema`, and a `UserError` if it may
    not be read. Both have one line that ends in `advice`. Any other `OSError` passes through and names the file.
    """
    raised: type[UserError] = DamagedRecordError
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("schema") if isinstance(content, dict) else None
        if schema is not None and found != schema:
            raise ValueError(f"schema is {found!r}, but this version of fgssl reads {schema}")
        record: T = adapter(kind).validate_python(content)  # type: ignore[arg-type]
        return record
    except FileNotFoundError:
        return None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}" for fault in error.errors()]
        reason = "; ".join(fault.removeprefix(": ") for fault in faults)
    except ValueError as error:  # among them: not JSON, or not UTF-8
        reason = str(error)
    except (PermissionError, IsADirectoryError) as error:
        raised, reason = UserError, str(error)
    except OSError as error:
        error.filename = error.filename or str(path)  # an error while reading names no file
        raise
    raise raised(f"{path}: cannot be read as a record of kind {kind.__name__} ({reason}): {advice}")


def read_or_warn(path: Path, kind: type[T], *, advice: str) -> T | None:
    """Return the record in a file as `read_record`, or None if it is damaged, after one warning on stderr."""
    try:
        return read_record(path, kind, advice=advice)
    except DamagedRecordError as error:
        warn_once(str(error))
        return None


@functools.cache
def warn_once(text: str) -> None:
    """Print a warning to stderr, the first time that this process meets it."""
    print(f"WARNING: {text}", file=sys.stderr)


def record_json(record: Any) -> str:
    """Return a dataclass as JSON for `read_record`; sets become sorted lists."""
    return json.dumps(dataclasses.asdict(record), indent=1, default=sorted) + "\n"


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def unreadable(path: Path, error: OSError) -> str:
    """Return the message about a file of a dataset that the system does not let this process read."""
    advice = _READING_ADVICE.get(error.errno or 0, "check the file system and its quotas, then start again")
    return f"{path}: cannot be read ({error.strerror or error}): {advice}"


def lock(file: IO[str], how: int = fcntl.LOCK_EX, patience_s: float = 0.0) -> bool:
    """Try for `patience_s` seconds to lock `file` until it is closed; return whether this process holds the lock.

    Raise a `UserError` if the file system has no locks.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        except OSError as error:
            advice = "choose an --out on a file system with locks"
            raise UserError(f"{file.name}: this file system has no file locks ({error.strerror}): {advice}") from error


def awaited(look: Callable[[], T], folders: Sequence[Path], patience_s: float, pause_s: float = 0.1) -> T:
    """Call `look` until it returns a true value or `patience_s` seconds have passed; return its last value.

    `look` reads files of other nodes. A shared file system caches the content of folders; listing `folders` refreshes
    it.
    """
    deadline = time.monotonic() + patience_s
    while not (found := look()) and time.monotonic() < deadline:
        for folder in folders:
            if folder.is_dir():
                os.listdir(folder)
        time.sleep(pause_s)
    return found


def wait_until_visible(file: Path) -> None:
    """Wait until this node sees a file that another node has just written, for a minute at most."""
    awaited(file.is_file, (file.parent.parent.parent, file.parent.parent, file.parent), _VISIBLE_WITHIN_S)
