"""Checkpoints: written aside, hashed, marked COMPLETE and renamed; a damaged one is skipped with a warning."""

import copy
import hashlib
import io
import os
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from fgssl.errors import CheckpointError, UserError
from fgssl.store.files import file_sha256, read_record, record_json, write_atomically
from fgssl.store.lease import Lease
from fgssl.store.records import COMPLETE, CheckpointMark, Environment, Identity
from fgssl.training.engines.engine import State

_STATE = "state.pt"
_RESULT = ("method", "optimizer")
"""Parts of a state that depend on the settings and the data alone; the time taken is not one of them."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a training after a step, and the run to which it belongs."""

    step: int
    """Number of steps done."""
    state: State
    identity: Identity
    environments: tuple[Environment, ...]
    """Environments in which the training has run, the newest last."""
    state_sha256: str | None = None
    """`state_sha256` of the state; None only until it is written."""

    def require(
        self, fingerprint: str, data_version: str, start_sha256: Mapping[str, str | None] | None = None
    ) -> None:
        """Raise a `CheckpointError` that lists what does not fit; start weights are compared if they are given."""
        faults = []
        if self.identity.fingerprint != fingerprint:
            faults.append(f"was made by another config (fingerprint {self.identity.fingerprint}, not {fingerprint})")
        if self.identity.data_version != data_version:
            faults.append(
                f"was trained on other data (version {self.identity.data_version[:12]}, not {data_version[:12]})"
            )
        for name, sha256 in (start_sha256 or {}).items():
            if self.identity.start_sha256.get(name) != sha256:
                faults.append(f"was started from other weights (start.{name})")
        if faults:
            raise CheckpointError(
                f"checkpoint of step {self.step} {' and '.join(faults)}; choose another --out, "
                "or delete the run folder's checkpoints to begin again"
            )


class Writer:
    """Context manager that writes the checkpoints of one run in a thread of its own, one at a time."""

    def __init__(self, folder: Path, lease: Lease, keep: int) -> None:
        """Write into `folder`/step-<step>, and keep the newest `keep` intact checkpoints there."""
        self._folder, self._lease, self._keep = folder, lease, keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._buffers: dict[tuple[Any, ...], Tensor] = {}
        self._checked: dict[Path, bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as failure:
            if error is None:
                raise
            warnings.warn(f"the last checkpoint was not written: {failure}", stacklevel=2)
        finally:
            self._thread.shutdown()

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy the state and return, while the thread writes the copy; wait first for the previous checkpoint."""
        self.wait()
        with torch.no_grad():
            state = self._copied(checkpoint.state)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        whole = replace(checkpoint, state=state)
        self._pending = self._thread.submit(self._write, whole)

    def wait(self) -> None:
        """Wait until the checkpoint is on disk; raise the error of the thread if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _copied(self, value: Any, *names: Any) -> Any:
        """Copy `value` into memory that is kept for it; page faults of new memory would cost several times the copy."""
        if isinstance(value, dict):
            copied = copy.copy(value)  # keeps the versions that torch attaches to a module's state
            copied.update({name: self._copied(item, *names, name) for name, item in value.items()})
            return copied
        if isinstance(value, list | tuple):
            items = [self._copied(item, *names, index) for index, item in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        if not isinstance(value, Tensor):
            return copy.deepcopy(value)
        kept = self._buffers.get(names)
        if kept is None or (kept.shape, kept.stride(), kept.dtype) != (value.shape, value.stride(), value.dtype):
            kept = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            self._buffers[names] = kept
        return kept.copy_(value, non_blocking=True)

    # ----------------------------------------------------------------------------------- in the thread

    def _write(self, checkpoint: Checkpoint) -> None:
        self._lease.check()
        path = self._folder / f"step-{checkpoint.step:08d}"
        if not self._intact(path):  # an intact one of this step stays, so that it exists at every moment
            self._write_new(path, checkpoint)
            self._checked[path] = True
        there = _newest_first(self._folder)
        intact = [other for other in there if other <= path and self._intact(other)]  # later ones were skipped
        with self._lease.publishing():
            for old in there:
                if old not in intact[: self._keep]:
                    _delete(old)

    def _write_new(self, path: Path, checkpoint: Checkpoint) -> None:
        aside = self._folder / f".{path.name}-{self._lease.lease_id}"
        try:
            aside.mkdir(parents=True, exist_ok=True)
            mark = CheckpointMark(
                step=checkpoint.step,
                identity=checkpoint.identity,
                environments=checkpoint.environments,
                state_sha256=state_sha256(checkpoint.state),
                sha256={_STATE: _write_hashed(aside / _STATE, checkpoint.state)},
            )
            write_atomically(aside / COMPLETE, record_json(mark))
            _flush(aside)
            with self._lease.publishing():
                _delete(path)  # it is damaged
                aside.rename(path)
            _flush(self._folder)
            _flush(self._folder.parent)  # the folder itself may be new in it
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _intact(self, path: Path) -> bool:
        """Return whether the checkpoint can be read; one of an earlier process is read once, later answers are kept."""
        if path not in self._checked:
            try:
                read(path, in_memory=False)
                self._checked[path] = True
            except DamagedCheckpointError:
                self._checked[path] = False
        return self._checked[path]


def state_sha256(state: State) -> str:
    """Return the SHA-256 of the method and the optimizer in `state`.

    It covers names, types, shapes and numbers, and is independent of devices, memory layouts and the order of names.
    """
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(f"tensor {value.dtype} {list(value.shape)}\n".encode())
            numbers = value.detach().cpu().contiguous().flatten()
            digest.update(numbers.view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            digest.update(f"mapping {len(value)}\n".encode())
            for name in sorted(value, key=repr):
                digest.update(f"{name!r}\n".encode())
                add(value[name])
        elif isinstance(value, list | tuple):
            digest.update(f"sequence {len(value)}\n".encode())
            for item in value:
                add(item)
        elif value is None or type(value) in (bool, int, float, str):
            digest.update(f"{value!r}\n".encode())
        else:
            raise TypeError(f"a state holds tensors and plain values, not {type(value).__name__}")

    add({name: state[name] for name in _RESULT})
    return digest.hexdigest()


def latest(folder: Path, identity: Identity) -> Checkpoint | None:
    """Return the newest intact checkpoint, or None; raise a `CheckpointError` if it does not belong to `identity`."""
    for path in _newest_first(folder):
        try:
            found = read(path)
        except DamagedCheckpointError as damage:
            warnings.warn(f"{damage}; skipped", stacklevel=2)
            continue
        found.require(identity.fingerprint, identity.data_version, identity.start_sha256)
        return found
    return None


def read(path: Path, in_memory: bool = True) -> Checkpoint:
    """Return the checkpoint in a folder; raise a `DamagedCheckpointError` if it is not whole."""
    try:
        mark = read_record(path / COMPLETE, CheckpointMark)
        found = file_sha256(path / _STATE)
    except (UserError, OSError) as error:
        raise DamagedCheckpointError(f"{path}: incomplete: {error}") from error
    if mark is None:
        raise DamagedCheckpointError(f"{path}: incomplete: {COMPLETE} is missing")
    if found != mark.sha256.get(_STATE):
        raise DamagedCheckpointError(f"{path}: {_STATE} does not match its SHA-256")
    try:
        state = torch.load(path / _STATE, map_location="cpu", weights_only=True, mmap=not in_memory)
    except Exception as error:  # torch raises many types, and its message advises to load unsafely
        raise DamagedCheckpointError(f"{path}: {_STATE} cannot be loaded by torch {torch.__version__}") from error
    return Checkpoint(mark.step, state, mark.identity, mark.environments, mark.state_sha256)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"step-{'[0-9]' * 8}"), reverse=True)


def _delete(path: Path) -> None:
    """Delete the file or folder at `path` if there is one."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be deleted: {error.strerror}") from error


def _flush(folder: Path) -> None:
    """Flush the folder's list of file names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_hashed(path: Path, state: State) -> str:
    """Write `state` to the disk, and return the SHA-256 of the file."""
    with _HashedFile(path) as file:
        torch.save(state, file)
        if file.error is not None:
            raise file.error
        file.flush()
        os.fsync(file.fileno())
    return file.digest.hexdigest()


class _HashedFile(io.BufferedWriter):
    """File that is hashed while it is written: hashing releases Python's lock, and no second read is needed."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self.digest = hashlib.sha256()
        self.error: OSError | None = None
        """First error of `write`, kept because torch would hide it behind an error of its own if it were raised."""

    def write(self, data: Any, /) -> int:
        if self.error is None:
            self.digest.update(data)
            try:
                super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


class DamagedCheckpointError(CheckpointError):
    """Checkpoint that is not whole; an earlier one may be."""
