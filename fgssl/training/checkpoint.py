"""Checkpoints: written aside, hashed, renamed, then marked COMPLETE; a damaged one is skipped with a warning."""

import io
import json
import shutil
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fgssl.encoders.weights import file_sha256
from fgssl.errors import CheckpointError, UserError
from fgssl.run_folder import Lease, write_atomically

_STATE, _MARK = "state.pt", "COMPLETE"


@dataclass(frozen=True)
class Identity:
    """What a checkpoint can be continued with, and nothing else."""

    fingerprint: str
    """Of the config's training."""
    data_version: str
    start_sha256: dict[str, str | None]
    """Of the weights files that training started from."""


@dataclass(frozen=True)
class Checkpoint:
    step: int
    """Steps done."""
    state: dict[str, Any]
    identity: Identity
    code_versions: list[str]
    """Of all attempts so far, the newest last."""

    def require(self, fingerprint: str, data_version: str, start_sha256: dict[str, str | None] | None = None) -> None:
        """Raise a `CheckpointError` that says what does not fit; the start weights count where they are given."""
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


def save(folder: Path, checkpoint: Checkpoint, lease: Lease, keep: int) -> None:
    """Write `folder`/step-<step>, then delete all but the newest `keep` checkpoints."""
    lease.check()
    path = folder / f"step-{checkpoint.step:08d}"
    aside = folder / f".{path.name}-{lease.attempt}"
    buffer = io.BytesIO()
    torch.save(checkpoint.state, buffer)
    try:
        aside.mkdir(parents=True, exist_ok=True)
        write_atomically(aside / _STATE, buffer.getvalue())
        mark = {
            "step": checkpoint.step,
            "identity": asdict(checkpoint.identity),
            "code_versions": checkpoint.code_versions,
            "sha256": {_STATE: file_sha256(aside / _STATE)},
        }
        write_atomically(aside / _MARK, json.dumps(mark))
        lease.check()
        if path.exists():  # damaged, else it would have been resumed from and passed
            shutil.rmtree(path)
        aside.rename(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    whole = [other for other in _newest_first(folder) if other.name <= path.name]  # a later one was skipped
    for old in set(_newest_first(folder)) - set(whole[:keep]):
        shutil.rmtree(old)


def latest(folder: Path, identity: Identity) -> Checkpoint | None:
    """The newest intact checkpoint, or None. Raises where it cannot be continued with `identity`."""
    for path in _newest_first(folder):
        try:
            found = read(path)
        except DamagedCheckpointError as damage:
            warnings.warn(f"{damage}; skipped", stacklevel=2)
            continue
        found.require(identity.fingerprint, identity.data_version, identity.start_sha256)
        return found
    return None


def read(path: Path) -> Checkpoint:
    """One checkpoint folder; a `DamagedCheckpointError` where it is not whole."""
    try:
        mark = json.loads((path / _MARK).read_text())
        found = file_sha256(path / _STATE)
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(f"{path}: incomplete: {error}") from error
    if found != mark["sha256"][_STATE]:
        raise DamagedCheckpointError(f"{path}: {_STATE} does not match its SHA-256")
    state = torch.load(path / _STATE, map_location="cpu", weights_only=True)
    return Checkpoint(int(mark["step"]), state, Identity(**mark["identity"]), mark["code_versions"])


def delete_all(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


class DamagedCheckpointError(CheckpointError):
    """Not whole: the one before it may be."""
