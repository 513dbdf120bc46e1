"""Collectives over real processes, by gloo."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgssl.collectives import World, peer_lost
from tests.distributed.check_collectives import checks
from tests.distributed.conftest import ENVIRONMENT, ROOT


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_they_are_what_one_process_computes(world_size: int, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
    command = [sys.executable, *torchrun, str(ROOT / "tests/distributed/check_collectives.py"), str(tmp_path)]
    finished = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert len(list(tmp_path.glob("passed-*"))) == world_size


def test_for_one_process_they_are_the_identity() -> None:
    checks(World())


def test_only_lost_connections_are_taken_for_a_lost_process() -> None:
    lost = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242")
    pair = World(rank=1, size=2, device=torch.device("cpu"))
    assert "process 1 of 2 lost contact" in str(peer_lost(lost, pair))
    assert peer_lost(lost, World()) is None
    assert peer_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), pair) is None
    assert peer_lost(ValueError("Connection closed by peer"), pair) is None
