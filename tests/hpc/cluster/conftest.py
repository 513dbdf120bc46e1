"""What the tests of submission share."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.data.location import ensure_toy
from fgssl.settings.data import DataSettings

Packed = Callable[[DataSettings], Path]


@pytest.fixture(scope="session")
def packed_toy(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Folder of a packed embedded set, drawn once for all tests: that takes longer than the rest of a submission."""

    @functools.cache
    def pack(data: DataSettings) -> Path:
        folder = tmp_path_factory.mktemp("data")
        ensure_toy(data, folder)
        return folder

    return pack


@pytest.fixture(autouse=True)
def _toy_from_store(packed_toy: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(data: DataSettings, data_root: Path) -> None:
        shutil.copytree(packed_toy(data), data_root, dirs_exist_ok=True)

    monkeypatch.setattr("hpc.sweeps.plan_inputs.ensure_toy", copied)
