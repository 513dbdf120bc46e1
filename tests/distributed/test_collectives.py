"""Collectives over real processes, by gloo."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgssl.collectives import World, peer_lost
from hpc.ranks import free_port
from tests.distributed.check_collectives import checks
from tests.distributed.conftest import ENVIRONMENT, ROOT

JOIN_WITH_THREE_THREADS = """
import sys, torch
from fgssl import device as devices
from fgssl.collectives import leave
from fgssl.processes import Processes
from fgssl.settings.training import ResourceSettings, TrainingSettings
rank = int(sys.argv[1])
devices.world(ResourceSettings(device="cpu", threads=3), TrainingSettings(), Processes(rank, 2, rank, 2, "srun"))
print(torch.get_num_threads())
leave()
"""


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


def test_a_process_has_the_threads_of_its_settings() -> None:
    """Accelerate sets a number of its own where nobody, as under srun, has set OMP_NUM_THREADS."""
    alone = {name: value for name, value in ENVIRONMENT.items() if name != "OMP_NUM_THREADS"}
    alone |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-c", JOIN_WITH_THREE_THREADS]
    processes = [
        subprocess.Popen(
            [*command, rank], env={**alone, "RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["3\n", "3\n"]
