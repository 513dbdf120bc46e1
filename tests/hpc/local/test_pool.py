"""Loop of a local sweep, with real jobs and faked runs."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fgssl.store.records import PROGRESS, Progress, Trained
from fgssl.store.run_folder import RunFolder
from hpc.local.display import Display
from hpc.local.executor import LocalMachine, Outcome
from hpc.local.launch import WorkOrder
from hpc.local.pool import LocalSweep
from hpc.sweeps.state import State
from hpc.sweeps.submission import submission_folder

SWEEP = """
import sys
from pathlib import Path
from hpc.local.display import Display
from hpc.local.executor import LocalMachine
from hpc.sweeps.grid import expand
from hpc.local.pool import LocalSweep
from hpc.sweeps.snapshot import freeze, packages
from hpc.sweeps.plan import plan
from hpc.sweeps.submission import submission_folder

file, out, jobs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
runs, code = plan(expand(file)).runs, freeze(packages(), out / "code")
sweep = LocalSweep(runs, out, LocalMachine(), Display(runs, out), jobs=jobs, devices=(), code=code)
with submission_folder(out) as submission:
    sweep.run(submission)
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the interval of polling, which would otherwise take most of the time."""
    monkeypatch.setattr("hpc.local.pool._POLL_S", 0.05)


def _sweep(small, code: Path, jobs: int = 2, console: Console | None = None) -> LocalSweep:
    display = Display(small.plan.runs, small.out, console or Console(file=io.StringIO()))
    return LocalSweep(small.plan.runs, small.out, LocalMachine(), display, jobs=jobs, devices=(), code=code)


def _run(small, sweep: LocalSweep) -> dict[str, State]:
    with submission_folder(small.out) as submission:
        return sweep.run(submission)


def _wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def _with_default_signals() -> None:
    """Restore default signals, since `nohup` ignores SIGHUP and background scripts ignore SIGINT."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _start(small, fake_sources: Path, jobs: int = 1) -> subprocess.Popen:
    """Start the whole sweep in its own process, which a test can kill."""
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(small.file), str(small.out), str(jobs)],
        cwd=small.out,
        env=os.environ | {"PYTHONPATH": str(fake_sources)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_with_default_signals,
    )


def test_every_run_once_after_what_it_needs_and_from_the_frozen_code(small, fake_code):
    final = _run(small, _sweep(small, fake_code))
    assert set(final.values()) == {State.DONE}
    assert sorted(small.executed()) == sorted(run.run for run in small.plan.runs)  # the fake checks the order
    assert {Path(attempt["code"]) for attempt in small.attempts()} == {fake_code / "fgssl" / "run" / "execution.py"}
    assert len({attempt["pid"] for attempt in small.attempts()}) <= 2  # a job makes many runs; one may make them all
    threads = {(attempt["env"]["OMP_NUM_THREADS"], attempt["env"]["PYTHONSAFEPATH"]) for attempt in small.attempts()}
    assert threads == {("1", "1")}
    assert list((small.out / "jobs").rglob("current.json")) == []


def test_a_finished_sweep_starts_no_job(small, fake_code):
    _run(small, _sweep(small, fake_code))
    before = len(small.executed())
    assert set(_run(small, _sweep(small, fake_code)).values()) == {State.DONE}
    assert len(small.executed()) == before


def test_runs_with_a_damaged_result_are_made_again_and_no_other(small, fake_code):
    _run(small, _sweep(small, fake_code))
    before, damaged = len(small.executed()), [small.run("pretrain", 0), small.run("base", 1)]
    results = [RunFolder.in_output(small.out, damaged[0]).path / "trained.json"]
    results += RunFolder.in_output(small.out, damaged[1]).path.glob("evaluation-*.json")
    whole = [file.read_bytes() for file in results]
    for file in results:
        file.write_bytes(b"")
    assert small.states()["decoder, seed 0"] is State.DONE  # although it needs pretrain
    assert set(_run(small, _sweep(small, fake_code)).values()) == {State.DONE}
    assert sorted(small.executed()[before:]) == sorted(damaged)
    assert [file.read_bytes() for file in results] == whole


def test_a_failure_stops_only_what_needs_it_and_is_tried_again(small, fake_code):
    small.behave((small.run("pretrain", 1), "fail"), (small.run("grad_cam sigma_grad_cam=0.5", 0), "fail"))
    sweep = _sweep(small, fake_code)
    failures = sweep.failures(_run(small, sweep))
    assert set(failures) == {"pretrain, seed 1", "grad_cam sigma_grad_cam=0.5, seed 0"}
    assert all("RuntimeError: this run fails" in text and "Traceback" in text for text in failures.values())
    states = small.states()
    assert states["decoder, seed 1"] is State.SKIPPED
    assert states["grad_cam sigma_grad_cam=0.25, seed 1"] is State.SKIPPED
    assert states["grad_cam sigma_grad_cam=0.25, seed 0"] is State.DONE

    done = [run for run in small.executed() if RunFolder(small.out / "runs" / run).trained()]
    small.behave()
    assert set(_run(small, _sweep(small, fake_code)).values()) == {State.DONE}
    assert all(small.executed().count(run) == 1 for run in done)


def test_a_killed_run_fails_with_its_signal_and_the_others_go_on(small, fake_code):
    killed = small.run("base", 0)
    small.behave((killed, "die"))
    sweep = _sweep(small, fake_code)
    final = _run(small, sweep)
    assert [state for state in final.values() if state is not State.DONE] == [State.FAILED]
    [reason] = sweep.failures(final).values()
    assert "killed by signal 9 (SIGKILL): out of memory?" in reason
    assert small.executed().count(killed) == 1
    assert RunFolder(small.out / "runs" / killed).failure() == reason  # for `aggregate`, and for the next sweep


def test_jobs_that_die_before_any_run_end_the_sweep(small, fake_code):
    (fake_code / "hpc" / "local" / "launch.py").write_text("raise RuntimeError('broken installation')")
    with pytest.raises(Exception, match="broken installation"):
        _run(small, _sweep(small, fake_code))


class _StumblingMachine(LocalMachine):
    """Machine on which two of three jobs end before they start a run."""

    def __init__(self) -> None:
        self.submitted = 0

    def submit(self, order: WorkOrder, device: str | None) -> Any:
        self.submitted += 1
        return _EarlyDeath(order.job) if self.submitted % 3 else super().submit(order, device)


@dataclass(frozen=True)
class _EarlyDeath:
    folder: Path

    def poll(self) -> Outcome:
        return Outcome(False, None, "stumbled")

    def current(self) -> None:
        return None


def test_early_deaths_with_work_between_them_do_not_add_up(small, fake_code):
    failing = [small.run("pretrain", 0), small.run("base", 1)]  # each ends its job: three jobs are needed
    small.behave(*((run, "fail") for run in failing))
    machine, display = _StumblingMachine(), Display(small.plan.runs, small.out, Console(file=io.StringIO()))
    sweep = LocalSweep(small.plan.runs, small.out, machine, display, jobs=1, devices=(), code=fake_code)
    assert State.PENDING not in _run(small, sweep).values()
    assert machine.submitted == 9


def test_finished_runs_are_not_read_again(small, fake_code, monkeypatch):
    """Half-second after half-second, a long sweep would read all of them."""
    reads: Counter[Path] = Counter()
    trained = RunFolder.trained

    def counted(folder: RunFolder) -> Trained | None:
        if record := trained(folder):
            reads[folder.path] += 1
        return record

    monkeypatch.setattr(RunFolder, "trained", counted)
    sweep = _sweep(small, fake_code)
    _run(small, sweep)
    assert len(reads) == len(small.plan.runs)
    before = reads.copy()
    for _ in range(3):
        sweep._reconcile()
    assert reads == before


def test_a_sweep_that_looks_long_looks_less_often(small, fake_code, monkeypatch):
    waits: list[float] = []
    sweep = _sweep(small, fake_code)
    looks = iter([{"run": State.RUNNING}, {"run": State.DONE}])
    monkeypatch.setattr(sweep, "_reconcile", lambda: next(looks))
    monkeypatch.setattr(sweep, "_start_jobs", lambda current, submission: None)
    monkeypatch.setattr(sweep._display, "update", lambda current: None)
    monkeypatch.setattr("hpc.local.pool.time.process_time", iter([10.0, 10.2, 20.0]).__next__)
    monkeypatch.setattr("hpc.local.pool.time.sleep", waits.append)
    _run(small, sweep)
    assert waits == [pytest.approx(0.2 * 30)]


def test_no_more_jobs_than_allowed_and_none_idle(small, fake_sources):
    slow = [small.run("pretrain", seed) for seed in (0, 1)]
    small.behave(*((run, "slow") for run in slow))
    process = _start(small, fake_sources, jobs=1)
    try:
        _wait_for(lambda: (small.out / "runs" / slow[0] / "stepping").exists())
        time.sleep(1.5)
        assert small.executed() == [slow[0]]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_lets_the_jobs_save_and_leaves_no_process(small, fake_sources, number):
    slow = small.run("pretrain", 0)
    small.behave((slow, "slow"))
    process = _start(small, fake_sources)
    _wait_for(lambda: (small.out / "runs" / slow / "stepping").exists())
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert b"are saving a checkpoint and stopping" in output
    assert b"the same command continues from here" in output
    assert int((small.out / "runs" / slow / "checkpoint").read_text()) > 0
    assert RunFolder(small.out / "runs" / slow).holder() is None
    assert small.states()["pretrain, seed 0"] is State.PENDING  # no failure: the next sweep goes on with it


def test_what_a_killed_sweep_left_behind_is_adopted_and_takes_no_further_run(small, fake_sources, fake_code):
    slow = small.run("pretrain", 0)
    small.behave((slow, "slow"))
    killed = _start(small, fake_sources)
    _wait_for(lambda: (small.out / "runs" / slow / "stepping").exists())
    killed.kill()
    killed.communicate()
    [orphan] = {attempt["pid"] for attempt in small.attempts()}

    (small.out / "runs" / slow / "stepping").unlink()
    second = _start(small, fake_sources, jobs=2)
    _wait_for(lambda: len(small.executed()) > 1)  # the other room is used meanwhile
    time.sleep(0.5)
    (small.out / "go").touch()
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output.decode()
    assert small.executed().count(slow) == 1
    assert [attempt["run"] for attempt in small.attempts() if attempt["pid"] == orphan] == [slow]
    assert set(small.states().values()) == {State.DONE}


def test_when_what_was_left_behind_dies_its_run_is_made_here(small, fake_sources):
    slow = small.run("pretrain", 0)
    small.behave((slow, "slow"))
    killed = _start(small, fake_sources)
    _wait_for(lambda: (small.out / "runs" / slow / "stepping").exists())
    killed.kill()
    killed.communicate()
    second = _start(small, fake_sources)
    time.sleep(1.5)
    assert small.executed() == [slow]  # waits: the lease is held
    (small.out / "go").touch()
    os.kill(small.attempts()[0]["pid"], signal.SIGKILL)
    second.communicate(timeout=120)
    assert second.returncode == 0
    assert set(small.states().values()) == {State.DONE}


def test_two_sweeps_at_once_make_every_run_once(small, fake_sources):
    both = [_start(small, fake_sources, jobs=2) for _ in range(2)]
    assert [process.wait(90) for process in both] == [0, 0]
    for process in both:
        process.communicate()
    assert sorted(small.executed()) == sorted(run.run for run in small.plan.runs)


def test_plain_lines_where_stdout_is_no_terminal(small, fake_code):
    small.behave((small.run("base", 1), "fail"))
    text = io.StringIO()
    _run(small, _sweep(small, fake_code, console=Console(file=text, width=200)))
    lines = text.getvalue().splitlines()
    assert sum("DONE" in line for line in lines) == len(small.plan.runs) - 1
    assert any("FAILED  base, seed 1" in line for line in lines)


def test_a_summary_without_a_running_run_ends_with_the_counts(small, monkeypatch):
    monkeypatch.setattr("hpc.local.display._PLAIN_SUMMARY_EVERY_S", 0.0)
    text = io.StringIO()
    states = small.states()
    keyed = {run.key: states[run.label] for run in small.plan.runs}
    Display(small.plan.runs, small.out, Console(file=text, width=200)).update(keyed)
    assert text.getvalue().splitlines()[-1].endswith("] 10 runs: 2 pending, 8 waiting")


def test_live_table_on_a_terminal(small):
    run = RunFolder(small.out / "runs" / small.run("pretrain"))
    [planned] = [one for one in small.plan.runs if one.run == run.path.name]
    with run.lease(planned.config) as lease:
        lease.write_record(PROGRESS, Progress(step=30, total_steps=70, loss=5.25, images_per_s=64.0, updated=0.0))
        text = io.StringIO()
        console = Console(file=text, force_terminal=True, width=120, height=50)
        states = small.states()
        with Display(small.plan.runs, small.out, console) as display:
            display.update({run.key: states[run.label] for run in small.plan.runs})
    assert all(part in text.getvalue() for part in ("30/70", "5.2500", "1:20", "10 runs:", "1 running", "WAITING"))
    assert json.loads((run.path / "progress.json").read_text())["step"] == 30
