"""Start weights are tried before a sweep is submitted, where torch is installed."""

import importlib.util
from pathlib import Path

import pytest
import torch

from fgssl.__main__ import main


@pytest.mark.parametrize("torch_here", [True, False])
def test_a_file_that_does_not_fit(
    sweep_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    torch_here: bool,
) -> None:
    wrong, out = tmp_path / "wrong.pth", tmp_path / "out"
    torch.save({"conv1.weight": torch.zeros(1)}, wrong)
    monkeypatch.setenv("PATH", "")
    if not torch_here:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    start = f"arms.base.settings.start.encoder={{stage: null, file: {wrong}}}"
    assert main(["sweep", str(sweep_file), "--cluster", "generic", start, "--out", str(out)]) == 2
    error = capfd.readouterr().err
    assert "no sbatch on PATH" in error
    assert (f"start.encoder.file: {wrong}: weights of another architecture:" in error) == torch_here
    assert not out.exists()
