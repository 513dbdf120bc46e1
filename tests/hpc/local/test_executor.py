"""Jobs on this machine: what they see, how they end, which GPUs there are."""

import dataclasses
import fcntl
import io
import os
import shutil
import signal
import stat
import time

import pytest
from rich.console import Console

from fgssl.store.run_folder import RunFolder
from hpc.local import executor
from hpc.local.display import Display
from hpc.local.executor import LocalMachine
from hpc.local.launch import ALIVE, WorkOrder
from hpc.local.pool import LocalSweep


@pytest.fixture
def order(small, fake_code) -> WorkOrder:
    """For a single run; no sweep holds `alive`, so a test that wants work must."""
    submission = small.out / "jobs" / "submission"
    submission.mkdir(parents=True)
    (submission / ALIVE).touch()
    return WorkOrder(
        stages=tuple(small.plan.stages[:1]), out=small.out, code=fake_code, job=submission / "job-001", threads=1
    )


@pytest.fixture
def living_sweep(order):
    with (order.job.parent / ALIVE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def _ended(job):
    _wait_for(lambda: job.poll() is not None)
    return job.poll()


@pytest.mark.usefixtures("living_sweep")
def test_a_job_sees_its_threads_and_its_gpu_only(order, small):
    job = LocalMachine().submit(order, device="MIG-1234")
    assert _ended(job).clean
    [attempt] = small.attempts()
    assert attempt["env"] == {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "MIG-1234",
        "PYTHONSAFEPATH": "1",
    }
    assert job.current() is None


def test_a_job_without_its_sweep_starts_nothing(order, small):
    assert _ended(LocalMachine().submit(order, device=None)).clean
    assert small.executed() == []


@pytest.mark.usefixtures("living_sweep")
@pytest.mark.parametrize(("behavior", "words"), [("fail", "exit status 1"), ("die", "signal 9 (SIGKILL)")])
def test_how_a_job_ended_and_at_which_run(order, small, behavior, words):
    run = order.stages[0].run
    small.behave((run, behavior))
    outcome = _ended(LocalMachine().submit(order, device=None))
    assert (outcome.clean, outcome.run) == (False, run)
    assert words in outcome.reason


@pytest.mark.usefixtures("living_sweep")
def test_cancel_lets_a_run_save(order, small):
    run = order.stages[0].run
    small.behave((run, "slow"))
    machine = LocalMachine()
    job = machine.submit(order, device=None)
    _wait_for((small.out / "runs" / run / "stepping").exists)
    machine.cancel([job], grace_s=20)
    assert "was told to stop" in _ended(job).reason
    assert (small.out / "runs" / run / "checkpoint").exists()


@pytest.mark.usefixtures("living_sweep")
def test_cancel_ends_by_force_what_does_not_leave(order, small):
    run = order.stages[0].run
    small.behave((run, "slow"))
    machine = LocalMachine()
    job = machine.submit(order, device=None)
    _wait_for((small.out / "runs" / run / "stepping").exists)
    machine.cancel([job], grace_s=0)
    assert job.poll() is not None
    _wait_for(lambda: RunFolder(small.out / "runs" / run).holder() is None)  # the kernel frees it at the death


@pytest.mark.usefixtures("living_sweep")
def test_work_does_not_go_on_unseen_when_its_controller_dies(order, small):
    run = order.stages[0].run
    small.behave((run, "slow"))
    job = LocalMachine().submit(order, device=None)
    _wait_for((small.out / "runs" / run / "stepping").exists)
    os.kill(job.process.pid, signal.SIGKILL)
    outcome = _ended(job)
    assert (outcome.clean, outcome.run) == (False, run)
    _wait_for(lambda: RunFolder(small.out / "runs" / run).holder() is None)  # the kernel frees it at the death


@pytest.mark.usefixtures("living_sweep")
def test_other_code_than_the_frozen_one_is_refused(order, small, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(order.code, elsewhere)
    launch = elsewhere / "hpc" / "local" / "launch.py"
    launch.write_text(f"__file__ = {str(order.code / 'hpc' / 'local' / 'launch.py')!r}\n" + launch.read_text())
    outcome = _ended(LocalMachine().submit(dataclasses.replace(order, code=elsewhere), device=None))
    assert f"not the code frozen in {elsewhere}" in outcome.reason


# ------------------------------------------------------------------------------------------ GPUs

TWO_GPUS = "GPU 0: NVIDIA X (UUID: GPU-aaa)\nGPU 1: NVIDIA X (UUID: GPU-bbb)\n"
SLICED = (
    "GPU 0: NVIDIA X (UUID: GPU-aaa)\n  MIG 1g.10gb     Device  0: (UUID: MIG-1)\n"
    "  MIG 1g.10gb     Device  1: (UUID: MIG-2)\nGPU 1: NVIDIA X (UUID: GPU-bbb)\n"
)


@pytest.fixture
def machine_with(tmp_path, monkeypatch):
    """A machine on which `nvidia-smi -L` prints the given text."""

    def install(listing: str) -> None:
        tools = tmp_path / "tools"
        tools.mkdir()
        program = tools / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}END\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(executor, "_torch_is_cpu_only", lambda: False)
        executor._listed_gpus.cache_clear()

    yield install
    executor._listed_gpus.cache_clear()


def test_gpus_and_slices(machine_with, monkeypatch):
    machine_with(SLICED)
    assert executor.gpus() == ["MIG-1", "MIG-2", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2")
    assert executor.gpus() == ["MIG-2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert executor.gpus() == []


def test_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # set out of habit on machines without one
    executor._listed_gpus.cache_clear()
    assert executor.gpus() == []
    assert executor.unused_gpus(1, ["auto"]) == []


def test_the_driver_is_asked_once(machine_with, tmp_path):
    machine_with(TWO_GPUS)
    assert executor.gpus() == ["0", "1"]
    (tmp_path / "tools" / "nvidia-smi").unlink()
    assert executor.gpus() == ["0", "1"]


def test_gpus_that_are_used_cause_no_warning(machine_with):
    machine_with(TWO_GPUS)
    assert executor.unused_gpus(2, ["auto", "cuda"]) == []


def test_gpus_that_are_not_used_are_said_loudly(machine_with, monkeypatch):
    machine_with(TWO_GPUS)
    assert "--jobs 1 leaves 1 of 2 GPUs without work: 1" in executor.unused_gpus(1, ["auto"])[0]
    assert "resources.device is cpu" in executor.unused_gpus(2, ["cpu"])[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert "CUDA_VISIBLE_DEVICES shows 1 of them" in executor.unused_gpus(1, ["auto"])[0]
    monkeypatch.setattr(executor, "_torch_is_cpu_only", lambda: True)
    assert "CPU build" in executor.unused_gpus(1, ["auto"])[-1]


def test_cores_are_those_of_this_process():
    assert 1 <= executor.cores() <= len(os.sched_getaffinity(0))


def test_jobs_share_the_gpus_evenly(small, fake_code, monkeypatch):
    display = Display(small.plan.stages, small.out, Console(file=io.StringIO()))
    LocalSweep(
        small.plan.stages, small.out, LocalMachine(), display, jobs=2, devices=["0", "MIG-2"], code=fake_code
    ).run()
    assert {attempt["env"]["CUDA_VISIBLE_DEVICES"] for attempt in small.attempts()} == {"0", "MIG-2"}


def test_the_environment_of_the_sweep_is_left_alone(order):
    before = dict(os.environ)
    LocalMachine().cancel([LocalMachine().submit(order, device="0")], grace_s=10)
    assert dict(os.environ) == before
