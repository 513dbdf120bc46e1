"""Sweep files that tests write, and the errors that they give."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fgssl.errors import SettingsError
from fgssl.settings.layers import to_yaml
from hpc.sweeps.grid import expand

BASE = {"method": {"name": "synthesized", "base": {"queue_size": 128}}, "views": {"image_size": 32}}
SIGMA = "method.noise.sigma_grad_cam"


def write(folder: Path, **content: object) -> Path:
    file = folder / "sweep.yaml"
    whole = {"name": "test", "settings": BASE, "arms": {"one": {}}} | content
    file.write_text(to_yaml(whole))
    return file


def errors_of(file: Path, preset: str | None = None, overrides: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    with pytest.raises(SettingsError) as caught:
        expand(file, preset, overrides)
    return [(Path(problem.source).name, problem.key, problem.message) for problem in caught.value.problems]


def error(file: Path, preset: str | None = None, overrides: Sequence[str] = ()) -> tuple[str, str, str]:
    [error] = errors_of(file, preset, overrides)
    return error


def start_from(stage: str) -> dict[str, object]:
    return {"encoder": {"stage": stage}}
