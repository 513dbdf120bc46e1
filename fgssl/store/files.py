"""Files that several processes share: atomic writes, typed records, locks, hashes, and waiting until one is visible."""

import dataclasses
import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import ValidationError

from fgssl.errors import UserError
from fgssl.settings.declare import adapter

T = TypeVar("T")

_VISIBLE_WITHIN_S = 60.0


def write_atomically(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write beside, flush to the disk (where it must outlive a crash), rename: a reader never sees a part."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping in a file of JSON, or None if there is no such file; damage is an error of `read_record`."""
    return read_record(path, dict[str, Any])


def read_record(
    path: Path,
    kind: type[T],
    *,
    schema: int | None = None,
    advice: str = "put back the file as it was, or delete it to have it made anew",
) -> T | None:
    """Return the record in a file that holds `record_json`, or None if there is no such file.

    `kind` is a dataclass, whose file may have further keys unless it forbids them, or a type such as `float`. Raises a
    `UserError` of one line that closes with `advice` if the file is damaged, of another form, or of another `schema`
    than the given one.
    """
    try:
        content = json.loads(path.read_text())
        found = content.get("schema") if isinstance(content, dict) else None
        if schema is not None and found != schema:
            raise ValueError(f"schema {found!r} is not the {schema} that this version reads")
        record: T = adapter(kind).validate_python(content)  # type: ignore[arg-type]
        return record
    except FileNotFoundError:
        return None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}" for fault in error.errors()]
        reason = "; ".join(fault.removeprefix(": ") for fault in faults)
    except (PermissionError, IsADirectoryError, ValueError) as error:  # among them: not JSON, or not UTF-8
        reason = str(error)
    raise UserError(f"{path}: cannot be read as a record of kind {kind.__name__} ({reason}): {advice}")


def record_json(record: Any) -> str:
    """Return a dataclass as the JSON text that `read_record` takes, with sets as sorted lists."""
    return json.dumps(dataclasses.asdict(record), indent=1, default=sorted) + "\n"


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def lock(file: IO[str], how: int = fcntl.LOCK_EX, patience_s: float = 0.0) -> bool:
    """Return whether this process now holds the lock on `file` (until it is closed), trying for `patience_s`."""
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
            advice = "choose an --out on one that has"
            raise UserError(f"{file.name}: no file locks on this file system ({error.strerror}); {advice}") from error


def awaited(look: Callable[[], T], folders: Sequence[Path], patience_s: float, pause_s: float = 0.1) -> T:
    """Return what `look` sees in files of other nodes: the first that is true, or the last one after `patience_s`.

    Shared file systems keep lists of what a folder holds; listing `folders` makes them ask the server again.
    """
    deadline = time.monotonic() + patience_s
    while not (found := look()) and time.monotonic() < deadline:
        for folder in folders:
            if folder.is_dir():
                os.listdir(folder)
        time.sleep(pause_s)
    return found


def wait_until_visible(file: Path) -> None:
    """Return once this node sees a file that another node has just written, or after a minute."""
    awaited(file.is_file, (file.parent.parent.parent, file.parent.parent, file.parent), _VISIBLE_WITHIN_S)
