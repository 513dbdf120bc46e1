"""One config, one run folder: what lies in it, who may write to it.

config.yaml               the resolved settings
lease                     held by the one process that may write; names the attempt
guard                     locked for the moment of each write, so that nobody takes the folder over meanwhile
progress.json             step, loss, images/s of the running attempt
metrics.jsonl             one line per logged step
checkpoints/              see fgssl.training.checkpoint
encoder.safetensors       what the training made (encoder.json beside it says how to load it)
decoder.safetensors       where the method has one
trained.json              written last: the training is complete
evaluation-<hash>.json    one per evaluation setting: the measures
failure.txt               traceback of the newest attempt, if it failed
failure-rank-<n>.txt      traceback of another process than the first, if that one failed
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from fgssl.errors import LeaseError, Problem, SettingsError, UserError
from fgssl.settings import config as configs
from fgssl.settings import fingerprints

_OTHERS_FAILURES = "failure-rank-*.txt"
_GUARD_PATIENCE_S = 60.0
"""A write into a folder takes less, unless its disk or its process stands still."""

RunState: TypeAlias = Literal["DONE", "RUNNING", "FAILED", "MISSING"]
Generation: TypeAlias = tuple[int, int]
"""Of an attempt that a scheduler started: which job of the run it is, and how often that job was put back in the queue.
"""


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
    """The mapping in a file written by `write_atomically`; None where there is none."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return None


class RunFolder:
    """Paths and records of one run. Reading needs no lease; everything that writes does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.encoder = path / "encoder.safetensors"
        self.decoder = path / "decoder.safetensors"

    # ------------------------------------------------------------------------------- what is there

    def trained(self) -> dict[str, Any] | None:
        """The record of a complete training, or None."""
        return read_json(self.path / "trained.json")

    def evaluation(self, config: configs.Config) -> dict[str, Any] | None:
        """The measures under this config's evaluation settings, or None."""
        return read_json(self._evaluation_file(config))

    def done(self, config: configs.Config) -> bool:
        """Whether nothing is left to compute for this config."""
        return self.trained() is not None and (config.evaluation is None or self.evaluation(config) is not None)

    def results(self, all_configs: Sequence[configs.Config]) -> tuple[str, ...]:
        """Names of the files that are there when nothing is left to compute for these configs."""
        measured = [self._evaluation_file(config).name for config in all_configs if config.evaluation is not None]
        return ("trained.json", *dict.fromkeys(measured))

    def state(self, config: configs.Config) -> RunState:
        """`DONE` for this config whoever else is at work here, `FAILED` only if nobody tries again."""
        if self.done(config):
            return "DONE"
        if self.holder() is not None:
            return "RUNNING"
        return "MISSING" if self.failure() is None else "FAILED"

    def progress(self) -> dict[str, Any] | None:
        return read_json(self.path / "progress.json")

    def failure(self) -> str | None:
        """Traceback of the newest attempt, if it failed."""
        try:
            return (self.path / "failure.txt").read_text()
        except FileNotFoundError:
            return self.failures_of_others(patience_s=0.0) or None  # the first process had no time to tell

    def note_failure(self, rank: int, text: str) -> None:
        """Of a process that does not write otherwise."""
        with contextlib.suppress(UserError):
            write_atomically(self.path / f"failure-rank-{rank}.txt", text)

    def failures_of_others(self, patience_s: float) -> str:
        """Tracebacks of other processes, the first failure first; waits for one for a while. Empty if none came."""
        deadline = time.monotonic() + patience_s
        while not (files := list(self.path.glob(_OTHERS_FAILURES))) and time.monotonic() < deadline:
            time.sleep(0.1)
        files.sort(key=lambda file: file.stat().st_mtime)
        return "".join(f"{file.stem.removeprefix('failure-')}:\n{file.read_text()}\n" for file in files)

    def config(self) -> configs.Config:
        return configs.load(self.config_file)

    # --------------------------------------------------------------------------------- who writes

    @contextlib.contextmanager
    def lease(self, config: configs.Config, generation: Generation | None = None) -> Iterator["Lease"]:
        """Become the one writer, make the folder, check that it belongs to `config`.

        Raises `LeaseError` where another live process holds it: the kernel frees the lock at a process' death. One that
        lives on though its scheduler has given it up (its node was lost for a while) gives way to a newer generation:
        from then on, nothing of it comes into the folder.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lease").open("a+")
        except OSError as error:
            raise UserError(
                f"{self.path}: no run folder can be made here: {error.strerror}; choose another --out"
            ) from error
        with contextlib.ExitStack() as stack:
            stack.enter_context(file)
            locked = lock(file, patience_s=1.0)  # a look by `holder` takes the lock for a moment
            lease = Lease(self, uuid.uuid4().hex[:12])
            with self.guarded():  # nobody takes over between this look and what follows from it
                try:
                    record = (self.path / "lease").read_text().strip()
                    there = (self.path / "lease").stat()
                except OSError as error:
                    raise LeaseError(f"{self.path / 'lease'}: cannot be read: {error.strerror}") from error
                theirs = _generation(record)
                free = locked and os.path.samestat(there, os.fstat(file.fileno()))
                if not free and not (generation and theirs and generation > theirs):
                    raise LeaseError(f"{self.path}: another process is at work here: {record}")
                if generation and theirs and generation < theirs:
                    raise LeaseError(f"{self.path}: a newer attempt was at work here: {record}")
                if free:
                    lease.sign(file, generation)
                else:
                    stack.enter_context(lease.take_over(generation))
            self._claim(config, lease)
            self._clear_leftovers()
            yield lease

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Within it no other process writes here or takes the folder over."""
        with (self.path / "guard").open("a") as file:
            if not lock(file, patience_s=_GUARD_PATIENCE_S):
                raise LeaseError(f"{file.name}: another process has been writing for {_GUARD_PATIENCE_S:.0f} s")
            yield

    def _claim(self, config: configs.Config, lease: "Lease") -> None:
        if not self.config_file.exists():
            lease.write("config.yaml", fingerprints.to_yaml(config))
        there = fingerprints.training_fingerprint(self.config())
        if there != fingerprints.training_fingerprint(config):
            raise SettingsError(
                [
                    Problem(
                        str(self.config_file),
                        "",
                        f"this folder belongs to another config (fingerprint {there}, asked for "
                        f"{fingerprints.training_fingerprint(config)}); choose another --out or move the folder away",
                    )
                ]
            )

    def _clear_leftovers(self) -> None:
        """What a killed attempt was writing. An orphan may still write beside, so some of it may stay or be gone."""
        for file in (*self.path.glob(".*"), *self.path.glob(_OTHERS_FAILURES)):
            if not file.name.startswith((".nfs", ".lease.")):  # open files that are gone; another's on its way
                with contextlib.suppress(OSError):
                    file.unlink()
        for folder in self.checkpoints.glob(".step-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def holder(self) -> str | None:
        """Who holds the lease just now (process, host, attempt), or None where it is free."""
        try:
            with (self.path / "lease").open() as file:
                if not lock(file, how=fcntl.LOCK_SH):
                    return file.read().strip() or "a process that has just started"
        except FileNotFoundError:
            pass
        return None

    def _evaluation_file(self, config: configs.Config) -> Path:
        return self.path / f"evaluation-{fingerprints.evaluation_fingerprint(config)}.json"


def start_file(source: configs.StartSource, role: str, out: Path) -> Path:
    """The weights that a run in the output folder `out` starts from; `role` is what they are of: encoder, decoder."""
    if source.file is not None:
        return Path(source.file).expanduser()
    return out / "runs" / str(source.run) / f"{role}.safetensors"


def lock(file: IO[str], how: int = fcntl.LOCK_EX, patience_s: float = 0.0) -> bool:
    """Whether this process now holds the lock on `file` (until it is closed); asked for until `patience_s` is over."""
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


def _generation(record: str) -> Generation | None:
    """Of who wrote the lease; None where no scheduler started it, or nobody wrote."""
    try:
        job, restart = json.loads(record)["generation"]
    except (ValueError, KeyError, TypeError):
        return None
    return job, restart


class Lease:
    """The right to write into a run folder; every write checks that it still is ours."""

    def __init__(self, folder: RunFolder, attempt: str) -> None:
        self.folder, self.attempt = folder, attempt

    def sign(self, file: IO[str], generation: Generation | None) -> None:
        """Written in place: the lock is on this very file."""
        record = {"attempt": self.attempt, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        try:
            file.seek(0)
            file.truncate()
            file.write(json.dumps(record if generation is None else {**record, "generation": generation}))
            file.flush()
        except OSError as error:
            raise UserError(f"{file.name}: cannot be written: {error.strerror}") from error

    def take_over(self, generation: Generation | None) -> IO[str]:
        """Put a lease of our own in the place of one that another process keeps locked; ours is locked until closed."""
        aside = self.folder.path / f".lease.{self.attempt}"
        file = aside.open("a+")
        lock(file)
        self.sign(file, generation)
        aside.replace(self.folder.path / "lease")
        return file

    def check(self) -> None:
        """Raise `LeaseError` if another attempt has taken the folder over."""
        record = read_json(self.folder.path / "lease")
        if record is None or record["attempt"] != self.attempt:
            raise LeaseError(f"{self.folder.path}: attempt {self.attempt} lost its lease to {record}; it stops here")

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """Within it the lease is ours for certain: for what makes a file, or a line of it, appear."""
        with self.folder.guarded():
            self.check()
            yield

    def write(self, name: str, content: str | bytes | Mapping[str, Any], durable: bool = True) -> None:
        """Write one file of the run folder atomically."""
        text = json.dumps(content, indent=1) + "\n" if isinstance(content, Mapping) else content
        with self.publishing():
            write_atomically(self.folder.path / name, text, durable)

    def write_evaluation(self, config: configs.Config, measures: Mapping[str, Any]) -> None:
        self.write(self.folder._evaluation_file(config).name, measures)

    def clear_failure(self) -> None:
        (self.folder.path / "failure.txt").unlink(missing_ok=True)
