"""Fixtures of tests that submit sweeps."""

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.data.location import ensure_toy
from fgssl.progress import Track
from fgssl.settings.data import DataSettings

Packed = Callable[[DataSettings], Path]
Record = Callable[..., None]


@pytest.fixture(scope="session")
def packed_toy(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Return a function that packs an embedded set, cached since that takes longer than the rest of a submission."""

    @functools.cache
    def pack(data: DataSettings) -> Path:
        folder = tmp_path_factory.mktemp("data")
        ensure_toy(data, folder)
        return folder

    return pack


@pytest.fixture(autouse=True)
def _toy_from_store(packed_toy: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(data: DataSettings, data_root: Path, track: Track) -> None:
        shutil.copytree(packed_toy(data), data_root, dirs_exist_ok=True)

    monkeypatch.setattr("hpc.sweeps.plan_inputs.ensure_toy", copied)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Return `record("squeue", "stdout", "stderr", 1)`, which sets the output and exit code of a command."""
    folder = tmp_path / "recorded"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def record(command: str, stdout: str = "", stderr: str = "", status: int = 0) -> None:
        (folder / f"{command}.out").write_text(stdout)
        (folder / f"{command}.err").write_text(stderr)
        script = folder / command
        script.write_text(f"#!/bin/sh\ncat {folder}/{command}.out\ncat {folder}/{command}.err >&2\nexit {status}\n")
        script.chmod(0o755)

    record("squeue")
    record("sacct")
    return record
