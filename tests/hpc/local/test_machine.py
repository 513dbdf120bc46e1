"""GPUs and cores of this machine."""

import os
import stat
import time

import pytest

from fgssl.errors import UserError
from hpc.local import machine

TWO_GPUS = "GPU 0: NVIDIA X (UUID: GPU-aaa)\nGPU 1: NVIDIA X (UUID: GPU-bbb)\n"
SLICED = (
    "GPU 0: NVIDIA X (UUID: GPU-aaa)\n  MIG 1g.10gb     Device  0: (UUID: MIG-1)\n"
    "  MIG 1g.10gb     Device  1: (UUID: MIG-2)\nGPU 1: NVIDIA X (UUID: GPU-bbb)\n"
)


@pytest.fixture
def machine_with(tmp_path, monkeypatch):
    """Return a function that makes a machine on which `nvidia-smi -L` prints a given text."""

    def install(listing: str, script: str = "") -> None:
        tools = tmp_path / "tools"
        tools.mkdir()
        program = tools / "nvidia-smi"
        program.write_text(script or f"#!/bin/sh\ncat <<'END'\n{listing}END\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(machine, "_torch_is_cpu_only", lambda: False)
        machine._listed_gpus.cache_clear()

    yield install
    machine._listed_gpus.cache_clear()


def test_gpus_and_slices(machine_with, monkeypatch):
    machine_with(SLICED)
    assert machine.gpus() == ["MIG-1", "MIG-2", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2")
    assert machine.gpus() == ["MIG-2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus() == []


def test_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # set out of habit on machines without one
    machine._listed_gpus.cache_clear()
    assert machine.gpus() == []
    assert machine.unused_gpus(1, ["auto"]) == []


def test_the_driver_is_asked_once(machine_with, tmp_path):
    machine_with(TWO_GPUS)
    assert machine.gpus() == ["0", "1"]
    (tmp_path / "tools" / "nvidia-smi").unlink()
    assert machine.gpus() == ["0", "1"]


def test_a_driver_that_does_not_answer_is_named(machine_with, monkeypatch):
    machine_with("", script="#!/bin/sh\nsleep 60 & wait\n")
    monkeypatch.setattr(machine, "_PATIENCE_S", 0.2)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"`nvidia-smi -L` has not answered for 0 s: .*CUDA_VISIBLE_DEVICES="):
        machine.gpus()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus() == []
    assert machine.unused_gpus(1, ["auto"]) == []
    assert time.monotonic() - began < 30


def test_a_driver_that_cannot_be_asked_is_named(machine_with):
    machine_with("", script="\x00 no program")
    with pytest.raises(UserError, match=r"`nvidia-smi -L` cannot be started: Exec format error: "):
        machine.gpus()


def test_bytes_of_the_driver_that_are_no_utf8(machine_with):
    machine_with("", script="#!/bin/sh\nprintf 'GPU 0: NVIDIA \\377 (UUID: GPU-aaa)\\n'\n")
    assert machine.gpus() == ["0"]


def test_gpus_that_are_used_cause_no_warning(machine_with):
    machine_with(TWO_GPUS)
    assert machine.unused_gpus(2, ["auto", "cuda"]) == []


def test_gpus_that_are_not_used_are_said_loudly(machine_with, monkeypatch):
    machine_with(TWO_GPUS)
    assert "--jobs 1 leaves 1 of 2 GPUs without work: 1" in machine.unused_gpus(1, ["auto"])[0]
    assert "resources.device cpu" in machine.unused_gpus(2, ["cpu"])[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert "CUDA_VISIBLE_DEVICES shows 1 of them" in machine.unused_gpus(1, ["auto"])[0]
    monkeypatch.setattr(machine, "_torch_is_cpu_only", lambda: True)
    assert "CPU build" in machine.unused_gpus(1, ["auto"])[-1]


def test_cores_are_those_of_this_process():
    assert 1 <= machine.cores() <= len(os.sched_getaffinity(0))
