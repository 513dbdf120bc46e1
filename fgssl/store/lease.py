"""The right to write into a run folder: one process holds it, and a newer job of the run may take it over.

lease    locked by its holder and naming it; the kernel frees the lock at a process' death
guard    locked for the moment of each write, so that nobody takes the folder over meanwhile
"""

import contextlib
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

from fgssl.errors import LeaseError, UserError
from fgssl.store.files import lock, record_json, write_atomically
from fgssl.store.records import Evaluation, Progress, Trained

_GUARD_PATIENCE_S = 60.0
"""A write into a folder takes less, unless its disk or its process stands still."""

Generation: TypeAlias = tuple[int, int]
"""Which job of the run a scheduler started, and how often that job was put back in the queue; later ones are greater.
"""


class Lease:
    """The right to write into a run folder; every write checks that it is still held."""

    def __init__(self, path: Path, lease_id: str) -> None:
        """`path` is the run folder."""
        self.path, self.lease_id = path, lease_id

    def sign(self, file: IO[str], generation: Generation | None) -> None:
        """Write the holder's record into the lease, in place: the lock is on this very file."""
        record = {"lease_id": self.lease_id, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        try:
            file.seek(0)
            file.truncate()
            file.write(json.dumps(record if generation is None else {**record, "generation": generation}))
            file.flush()
        except OSError as error:
            raise UserError(f"{file.name}: cannot be written: {error.strerror}") from error

    def take_over(self, generation: Generation | None) -> IO[str]:
        """Replace a lease that another process keeps locked; return the new one, locked until it is closed."""
        aside = self.path / f".lease.{self.lease_id}"
        file = aside.open("a+")
        lock(file)
        self.sign(file, generation)
        aside.replace(self.path / "lease")
        return file

    def check(self) -> None:
        """Raise a `LeaseError` if another process has taken the folder over."""
        record = _record(self.path)
        if _fields(record).get("lease_id") != self.lease_id:
            raise LeaseError(f"{self.path}: process {self.lease_id} lost its lease to {record!r}; it stops here")

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """Keep the lease for certain within the context, in which a file, or a line of it, appears."""
        with guarded(self.path):
            self.check()
            yield

    def write(self, name: str, content: str | bytes, durable: bool = True) -> None:
        """Write one file of the run folder atomically."""
        with self.publishing():
            write_atomically(self.path / name, content, durable)

    def write_record(self, name: str, record: Trained | Evaluation | Progress, durable: bool = True) -> None:
        """Write one record of the run folder atomically, for `files.read_record`."""
        self.write(name, record_json(record), durable)

    def clear_failure(self) -> None:
        """Delete the traceback of an earlier failure."""
        (self.path / "failure.txt").unlink(missing_ok=True)


@contextlib.contextmanager
def hold(path: Path, generation: Generation | None = None) -> Iterator[Lease]:
    """Become the one writer of the run folder `path`, which is made if it is missing.

    Raises a `LeaseError` if another live process holds it. A process that lives on though its scheduler has given it up
    (its node was lost for a while) gives way to a newer generation: from then on, nothing of it comes into the folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / "lease").open("a+")
    except OSError as error:
        raise UserError(f"{path}: no run folder can be made here: {error.strerror}; choose another --out") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(file)
        locked = lock(file, patience_s=1.0)  # a look by `holder` takes the lock for a moment
        lease = Lease(path, uuid.uuid4().hex[:12])
        with guarded(path):  # nobody takes over between this look and what follows from it
            record = _record(path)
            theirs = _generation(record)
            free = locked and os.path.samestat((path / "lease").stat(), os.fstat(file.fileno()))
            if not free and not (generation and theirs and generation > theirs):
                raise LeaseError(f"{path}: another process is at work here: {record}")
            if generation and theirs and generation < theirs:
                raise LeaseError(f"{path}: a newer attempt was at work here: {record}")
            if free:
                lease.sign(file, generation)
            else:
                stack.enter_context(lease.take_over(generation))
        yield lease


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Keep other processes from writing into the run folder `path`, and from taking it over, within the context."""
    with (path / "guard").open("a") as file:
        if not lock(file, patience_s=_GUARD_PATIENCE_S):
            raise LeaseError(f"{file.name}: another process has been writing for {_GUARD_PATIENCE_S:.0f} s")
        yield


def holder(path: Path) -> str | None:
    """Return the record of the process that holds the lease of the run folder `path`, or None if it is free."""
    try:
        with (path / "lease").open(errors="replace") as file:
            if not lock(file, how=fcntl.LOCK_SH):
                return file.read().strip() or "a process that has just started"
    except FileNotFoundError:
        pass
    return None


def _record(path: Path) -> str:
    try:
        return (path / "lease").read_text(errors="replace").strip()
    except OSError as error:
        raise LeaseError(f"{path / 'lease'}: cannot be read: {error.strerror}") from error


def _fields(record: str) -> dict[str, Any]:
    """Return the fields of a lease's record; none if nobody wrote it, or it is damaged."""
    try:
        fields = json.loads(record)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _generation(record: str) -> Generation | None:
    """Return the generation of a lease's writer, or None if no scheduler started it or nobody wrote."""
    match _fields(record).get("generation"):
        case [int(job), int(restart)]:
            return job, restart
    return None
