"""DeepSpeed's engines on real processes, by gloo."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from fgssl.collectives import World
from fgssl.errors import UserError
from fgssl.training.engines.zero import Zero
from tests.distributed.conftest import ENVIRONMENT, ROOT


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 4])
def test_every_stage_is_a_plain_optimizer(world_size: int, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
    command = [sys.executable, *torchrun, str(ROOT / "tests/distributed/check_zero.py"), str(tmp_path)]
    # No compiler can be found: none may be needed on a compute node.
    environment = ENVIRONMENT | {"PATH": "", "CXX": "", "CC": "", "TORCH_EXTENSIONS_DIR": str(tmp_path / "built")}
    finished = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-4000:]
    assert len(list(tmp_path.glob("passed-*"))) == world_size
    assert not (tmp_path / "built").exists()


@pytest.mark.parametrize("installed", ["0.18.1", None])
def test_a_deepspeed_that_is_too_old_or_missing_is_refused(
    installed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str:
        if installed is None:
            raise metadata.PackageNotFoundError(package)
        return installed

    monkeypatch.setattr(metadata, "version", version)
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"need DeepSpeed .* or newer"):
        Zero(layer, torch.optim.SGD(layer.parameters()), World(), stage=1)  # type: ignore[arg-type]
