"""Jobs on this machine: their environment and their end."""

import dataclasses
import fcntl
import io
import os
import shutil
import time

import pytest
from rich.console import Console

from fgssl.settings.methods import METHODS
from fgssl.store.run_folder import RunFolder
from hpc.local.display import Display
from hpc.local.executor import LocalMachine
from hpc.local.launch import WorkOrder
from hpc.local.pool import LocalSweep
from hpc.sweeps.snapshot import freeze, packages
from hpc.sweeps.submission import ALIVE, submission_folder


@pytest.fixture
def order(small, fake_code) -> WorkOrder:
    """Return the work order of one run; no sweep holds its `alive` file, so a test that needs that must hold it."""
    submission = small.out / "jobs" / "submission"
    submission.mkdir(parents=True)
    (submission / ALIVE).touch()
    return WorkOrder(
        runs=tuple(small.plan.runs[:1]), out=small.out, code=fake_code, job=submission / "job-001", threads=1
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
def test_a_job_sees_its_threads_and_its_gpu_only(order, small, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    job = LocalMachine().submit(order, device="MIG-1234")
    assert _ended(job).clean
    [attempt] = small.attempts()
    assert attempt["env"] == {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "MIG-1234",
        "PYTHONSAFEPATH": "1",
    }
    assert job.current() is None


@pytest.mark.usefixtures("living_sweep")
def test_a_job_sees_no_variables_of_an_enclosing_launcher(order, small, monkeypatch):
    of_launcher = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION", "PMI_SIZE"]
    for name in [*of_launcher, "OMPI_COMM_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "LOCAL_SCRATCH"]:
        monkeypatch.setenv(name, "2")
    assert _ended(LocalMachine().submit(order, device=None)).clean
    [attempt] = small.attempts()
    assert attempt["launcher"] == ["LOCAL_SCRATCH"]


def test_a_job_without_its_sweep_starts_nothing(order, small):
    assert _ended(LocalMachine().submit(order, device=None)).clean
    assert small.executed() == []


@pytest.mark.usefixtures("living_sweep")
@pytest.mark.parametrize(("behavior", "words"), [("fail", "exit status 1"), ("die", "signal 9 (SIGKILL)")])
def test_how_a_job_ended_and_at_which_run(order, small, behavior, words):
    run = order.runs[0].run
    small.behave((run, behavior))
    outcome = _ended(LocalMachine().submit(order, device=None))
    assert (outcome.clean, outcome.run) == (False, run)
    assert words in outcome.reason


@pytest.mark.usefixtures("living_sweep")
def test_cancel_lets_a_run_save(order, small):
    run = order.runs[0].run
    small.behave((run, "slow"))
    machine = LocalMachine()
    job = machine.submit(order, device=None)
    _wait_for((small.out / "runs" / run / "stepping").exists)
    machine.cancel([job], grace_s=20)
    assert "was stopped by a signal" in _ended(job).reason
    assert (small.out / "runs" / run / "checkpoint").exists()


@pytest.mark.usefixtures("living_sweep")
def test_cancel_ends_by_force_what_does_not_leave(order, small):
    run = order.runs[0].run
    small.behave((run, "slow"))
    machine = LocalMachine()
    job = machine.submit(order, device=None)
    _wait_for((small.out / "runs" / run / "stepping").exists)
    machine.cancel([job], grace_s=0)
    assert job.poll() is not None
    _wait_for(lambda: RunFolder(small.out / "runs" / run).holder() is None)  # the kernel frees it at the death


@pytest.mark.usefixtures("living_sweep")
def test_other_code_than_the_frozen_one_is_refused(order, small, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(order.code, elsewhere)
    launch = elsewhere / "hpc" / "local" / "launch.py"
    launch.write_text(f"__file__ = {str(order.code / 'hpc' / 'local' / 'launch.py')!r}\n" + launch.read_text())
    outcome = _ended(LocalMachine().submit(dataclasses.replace(order, code=elsewhere), device=None))
    assert f"instead of the code frozen in {elsewhere}" in outcome.reason


# ------------------------------------------------------------------------------------------ GPUs


def test_jobs_share_the_gpus_evenly(small, fake_code, monkeypatch):
    display = Display(small.plan.runs, small.out, Console(file=io.StringIO()))
    sweep = LocalSweep(
        small.plan.runs, small.out, LocalMachine(), display, jobs=2, devices=["0", "MIG-2"], code=fake_code
    )
    with submission_folder(small.out) as submission:
        sweep.run(submission)
    assert {attempt["env"]["CUDA_VISIBLE_DEVICES"] for attempt in small.attempts()} == {"0", "MIG-2"}


def test_the_environment_of_the_sweep_is_left_alone(order):
    before = dict(os.environ)
    LocalMachine().cancel([LocalMachine().submit(order, device="0")], grace_s=10)
    assert dict(os.environ) == before


@pytest.mark.usefixtures("living_sweep")
def test_a_part_outside_of_the_package_is_the_frozen_one(order, fake_sources, tmp_path, monkeypatch):
    user = tmp_path / "user"
    (user / "part_package").mkdir(parents=True)
    (user / "part_package" / "method.py").write_text("import part_module\nPart = f'frozen {part_module.NAME}'\n")
    (user / "part_module.py").write_text("NAME = 'module'\n")
    lines = {"packaged": "part_package.method:Part", "single": "part_module:NAME"}
    registry = fake_sources / "fgssl" / "settings" / "methods.py"
    registry.write_text(f"{registry.read_text()}\nMETHODS.update({lines})\n")
    (fake_sources / "fgssl" / "run" / "execution.py").write_text(
        "from fgssl.settings.methods import METHODS\n\n\ndef execute(config, out):\n"
        "    (out / 'part').write_text(METHODS.load('packaged'))\n    raise SystemExit\n"
    )
    monkeypatch.syspath_prepend(user)
    for name, path in lines.items():
        monkeypatch.setitem(METHODS, name, path)
    code = freeze([fake_sources / "fgssl", fake_sources / "hpc", *packages()[2:]], order.out / "code")

    (user / "part_package" / "method.py").write_text("import part_module\nPart = f'edited {part_module.NAME}'\n")
    (user / "part_module.py").write_text("NAME = 'edited module'\n")
    monkeypatch.setenv("PYTHONPATH", str(user))
    monkeypatch.chdir(user)
    assert _ended(LocalMachine().submit(dataclasses.replace(order, code=code), device=None)).clean
    assert (order.out / "part").read_text() == "frozen module"
