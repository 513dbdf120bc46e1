"""Errors of `--verify-exact`; tests with several processes cover the rest."""

from pathlib import Path

import pytest

from fgssl.errors import SettingsError
from fgssl.run.verify_exact import verify


def test_a_method_that_trains_nothing_has_nothing_to_verify(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("method: {name: start_encoder}\n")
    with pytest.raises(SettingsError, match=r"run.yaml: method.name: start_encoder trains nothing"):
        verify(config, (), tmp_path / "out")
