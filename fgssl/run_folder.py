"""One config, one run folder: what lies in it, who may write to it.

config.yaml               the resolved settings
lease                     held by the one process that may write; names the attempt
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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, Self, TypeAlias

from fgssl import config as configs
from fgssl.errors import LeaseError, Problem, SettingsError, UserError

_OTHERS_FAILURES = "failure-rank-*.txt"

RunState: TypeAlias = Literal["DONE", "RUNNING", "FAILED", "MISSING"]


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
    def lease(self, config: configs.Config) -> Iterator["Lease"]:
        """Become the one writer, make the folder, check that it belongs to `config`.

        Raises `LeaseError` where another live process holds it: the kernel frees the lock at a process' death.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lease").open("a+")
        except OSError as error:
            raise UserError(
                f"{self.path}: no run folder can be made here: {error.strerror}; choose another --out"
            ) from error
        with file:
            if not _locked(file, patience_s=1.0):  # a look by `holder` takes the lock for a moment
                file.seek(0)
                raise LeaseError(f"{self.path}: another process is at work here: {file.read().strip()}")
            lease = Lease.acquire(self)
            self._claim(config, lease)
            self._clear_leftovers()
            yield lease

    def _claim(self, config: configs.Config, lease: "Lease") -> None:
        if not self.config_file.exists():
            lease.write("config.yaml", configs.to_yaml(config))
        there = configs.training_fingerprint(self.config())
        if there != configs.training_fingerprint(config):
            raise SettingsError(
                [
                    Problem(
                        str(self.config_file),
                        "",
                        f"this folder belongs to another config (fingerprint {there}, asked for "
                        f"{configs.training_fingerprint(config)}); choose another --out or move the folder away",
                    )
                ]
            )

    def _clear_leftovers(self) -> None:
        """What a killed attempt was writing: nobody else writes here now."""
        for file in (*self.path.glob(".*"), *self.path.glob(_OTHERS_FAILURES)):
            file.unlink()
        for folder in self.checkpoints.glob(".step-*"):
            shutil.rmtree(folder)

    def holder(self) -> str | None:
        """Who holds the lease just now (process, host, attempt), or None where it is free."""
        try:
            with (self.path / "lease").open() as file:
                if not _locked(file, how=fcntl.LOCK_SH):
                    return file.read().strip() or "a process that has just started"
        except FileNotFoundError:
            pass
        return None

    def _evaluation_file(self, config: configs.Config) -> Path:
        return self.path / f"evaluation-{configs.evaluation_fingerprint(config)}.json"


def start_file(source: configs.StartSource, role: str, out: Path) -> Path:
    """The weights that a run in the output folder `out` starts from; `role` is what they are of: encoder, decoder."""
    if source.file is not None:
        return Path(source.file).expanduser()
    return out / "runs" / str(source.run) / f"{role}.safetensors"


def _locked(file: IO[str], how: int = fcntl.LOCK_EX, patience_s: float = 0.0) -> bool:
    """Whether this process now holds the lock on `file` (until it is closed)."""
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


class Lease:
    """The right to write into a run folder; every write checks that it still is ours."""

    def __init__(self, folder: RunFolder, attempt: str) -> None:
        self.folder, self.attempt = folder, attempt

    @classmethod
    def acquire(cls, folder: RunFolder) -> Self:
        attempt = uuid.uuid4().hex[:12]
        record = {"attempt": attempt, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        # Written in place: the lock is on this very file.
        try:
            (folder.path / "lease").write_text(json.dumps(record))
        except OSError as error:
            raise UserError(f"{folder.path / 'lease'}: cannot be written: {error.strerror}") from error
        return cls(folder, attempt)

    def check(self) -> None:
        """Raise `LeaseError` if another attempt has taken the folder over."""
        record = read_json(self.folder.path / "lease")
        if record is None or record["attempt"] != self.attempt:
            raise LeaseError(f"{self.folder.path}: attempt {self.attempt} lost its lease to {record}; it stops here")

    def write(self, name: str, content: str | bytes | Mapping[str, Any], durable: bool = True) -> None:
        """Write one file of the run folder atomically."""
        self.check()
        text = json.dumps(content, indent=1) + "\n" if isinstance(content, Mapping) else content
        write_atomically(self.folder.path / name, text, durable)

    def write_evaluation(self, config: configs.Config, measures: Mapping[str, Any]) -> None:
        self.write(self.folder._evaluation_file(config).name, measures)

    def clear_failure(self) -> None:
        (self.folder.path / "failure.txt").unlink(missing_ok=True)
