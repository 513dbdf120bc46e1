"""Right to write into a run folder. One process holds it, and a newer job of the same run may take it over.

lease    record of the holder, locked by it; the kernel frees the lock when the process dies
guard    locked during each write, so that no process takes the folder over meanwhile
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
from fgssl.store.records import PROGRESS, Evaluation, Progress, Trained

_GUARD_PATIENCE_S = 60.0
"""Longest wait for the guard. A write takes less unless its disk or its process hangs."""

Generation: TypeAlias = tuple[int, int]
"""Number of a job's work order, and how often the scheduler requeued the job. Later generations are greater."""


class Lease:
    """Right to write into a run folder. Every write checks that it is still held."""

    def __init__(self, path: Path, lease_id: str) -> None:
        """`path` is the run folder."""
        self.path, self.lease_id = path, lease_id

    def sign(self, file: IO[str], generation: Generation | None) -> None:
        """Write the holder's record into the lease in place, because the lock belongs to this very file."""
        record = {"lease_id": self.lease_id, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        try:
            file.seek(0)
            file.truncate()
            file.write(json.dumps(record if generation is None else {**record, "generation": generation}))
            file.flush()
        except OSError as error:
            raise UserError(f"{file.name}: cannot be written: {error.strerror}") from error

    def take_over(self, generation: Generation | None) -> IO[str]:
        """Replace a lease that another process keeps locked. Return the new file, locked until it is closed."""
        aside = self.path / f".lease.{self.lease_id}"
        file = aside.open("a+", encoding="utf-8")
        lock(file)
        self.sign(file, generation)
        aside.replace(self.path / "lease")
        return file

    def check(self) -> None:
        """Raise a `LeaseError` if another process has taken over the folder."""
        record = _record(self.path)
        if _fields(record).get("lease_id") != self.lease_id:
            raise LeaseError(
                f"{self.path}: this process ({self.lease_id}) stops, because it lost its lease to {record!r}"
            )

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """Hold the guard within the context, in which a file or a line of it is written; raise if the lease is lost."""
        with guarded(self.path):
            self.check()
            yield

    def write(self, name: str, content: str | bytes, durable: bool = True) -> None:
        """Write one file of the run folder atomically."""
        with self.publishing():
            write_atomically(self.path / name, content, durable)

    def write_record(self, name: str, record: Trained | Evaluation | Progress, durable: bool = True) -> None:
        """Write one record of the run folder atomically, as `files.read_record` reads it."""
        self.write(name, record_json(record), durable)

    def clear_failure(self) -> None:
        """Delete the traceback of an earlier failure."""
        (self.path / "failure.txt").unlink(missing_ok=True)

    def clear_progress(self) -> None:
        """Delete the progress of a run that is done."""
        (self.path / PROGRESS).unlink(missing_ok=True)


@contextlib.contextmanager
def hold(path: Path, generation: Generation | None = None) -> Iterator[Lease]:
    """Hold the lease of the run folder `path`, which is created if missing, within the context.

    Raise a `LeaseError` if another live process holds it, unless `generation` is newer than that process's, or if a
    newer generation has held it. A process can outlive its job, for example while its node is cut off. It loses the
    lease to a newer generation, after which its writes are rejected.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / "lease").open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: the run folder cannot be created ({error.strerror}); choose another --out") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(file)
        locked = lock(file, patience_s=1.0)  # `holder` takes the lock for a moment
        lease = Lease(path, uuid.uuid4().hex[:12])
        with guarded(path):  # no process takes over between reading and signing
            record = _record(path)
            theirs = _generation(record)
            free = locked and os.path.samestat((path / "lease").stat(), os.fstat(file.fileno()))
            if not free and not (generation and theirs and generation > theirs):
                raise LeaseError(f"{path}: another process works here: {record}")
            if generation and theirs and generation < theirs:
                raise LeaseError(f"{path}: a newer job has worked here: {record}")
            if free:
                lease.sign(file, generation)
            else:
                stack.enter_context(lease.take_over(generation))
        yield lease


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Keep other processes from writing into the run folder `path` or taking it over, within the context."""
    with (path / "guard").open("a", encoding="utf-8") as file:
        if not lock(file, patience_s=_GUARD_PATIENCE_S):
            raise LeaseError(f"{file.name}: another process has been writing for {_GUARD_PATIENCE_S:.0f} s")
        yield


def holder(path: Path) -> str | None:
    """Return the record of the process that holds the lease of the run folder `path`, or None if it is free."""
    try:
        with (path / "lease").open(errors="replace", encoding="utf-8") as file:
            if not lock(file, how=fcntl.LOCK_SH):
                return file.read().strip() or "a process that has just started"
    except FileNotFoundError:
        pass
    return None


def _record(path: Path) -> str:
    try:
        return (path / "lease").read_text(errors="replace", encoding="utf-8").strip()
    except OSError as error:
        raise LeaseError(f"{path / 'lease'}: cannot be read: {error.strerror}") from error


def _fields(record: str) -> dict[str, Any]:
    """Return the fields of a lease's record, or {} if it is empty or damaged."""
    try:
        fields = json.loads(record)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _generation(record: str) -> Generation | None:
    """Return the generation of a lease's writer, or None if no scheduler started it or the record is empty."""
    match _fields(record).get("generation"):
        case [int(job), int(restart)]:
            return job, restart
    return None
