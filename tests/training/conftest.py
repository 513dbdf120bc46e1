"""Run folder whose lease is held."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fgssl.settings.config import Config
from fgssl.store.lease import Lease
from fgssl.store.run_folder import RunFolder


@pytest.fixture
def lease(tmp_path: Path, tiny_config: Callable[..., Config]) -> Iterator[Lease]:
    with RunFolder(tmp_path / "run").lease(tiny_config()) as held:
        yield held
