"""Checkpoints: written aside, hashed, renamed, then marked COMPLETE; a damaged one is skipped with a warning."""

import io
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from fgssl.encoders.weights import file_sha256
from fgssl.errors import CheckpointError
from fgssl.run_folder import Lease, write_atomically

_STATE, _MARK = "state.pt", "COMPLETE"


def save(folder: Path, step: int, state: dict[str, Any], fingerprint: str, lease: Lease, keep: int) -> None:
    """Write `folder`/step-<step>, then delete all but the newest `keep` checkpoints."""
    lease.check()
    checkpoint = folder / f"step-{step:08d}"
    aside = folder / f".step-{step:08d}-{lease.attempt}"
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        aside.mkdir(parents=True, exist_ok=True)
        write_atomically(aside / _STATE, buffer.getvalue())
        mark = {"step": step, "fingerprint": fingerprint, "sha256": {_STATE: file_sha256(aside / _STATE)}}
        write_atomically(aside / _MARK, json.dumps(mark))
        lease.check()
        if checkpoint.exists():  # damaged, else it would have been resumed from and passed
            shutil.rmtree(checkpoint)
        aside.rename(checkpoint)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for old in _newest_first(folder)[keep:]:
        shutil.rmtree(old)


def latest(folder: Path, fingerprint: str) -> tuple[int, dict[str, Any]] | None:
    """(step, state) of the newest intact checkpoint, or None. Raises where it belongs to another config."""
    for checkpoint in _newest_first(folder):
        try:
            return read(checkpoint, fingerprint)
        except _Damaged as damage:
            warnings.warn(f"{checkpoint}: skipped, {damage}", stacklevel=2)
    return None


def read(checkpoint: Path, fingerprint: str) -> tuple[int, dict[str, Any]]:
    try:
        mark = json.loads((checkpoint / _MARK).read_text())
        found = file_sha256(checkpoint / _STATE)
    except (OSError, ValueError) as error:
        raise _Damaged(f"incomplete: {error}") from error
    if found != mark["sha256"][_STATE]:
        raise _Damaged(f"{_STATE} does not match its SHA-256")
    if mark["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"{checkpoint}: made by another config (fingerprint {mark['fingerprint']}, this one's is {fingerprint}); "
            "choose another --out or move the run folder away"
        )
    state = torch.load(checkpoint / _STATE, map_location="cpu", weights_only=True)
    return int(mark["step"]), state


def delete_all(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


class _Damaged(CheckpointError):
    """Not whole: the one before it may be."""
