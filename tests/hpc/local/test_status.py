"""`fgssl status` for a sweep on this machine: what lies on disk, seen from another shell."""

import dataclasses
import fcntl
import os
import time
from pathlib import Path

import pytest

from fgssl.__main__ import invoke, main
from fgssl.store.files import record_json, write_atomically
from fgssl.store.records import PROGRESS, Progress
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.overview import headline
from tests.hpc.fake_run import execute

KILLED = "the job was killed by signal 9 (SIGKILL)"
TRACEBACK = """rank-1:
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    raise KeyError
KeyError

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    raise fgssl.errors.DataError
fgssl.errors.DataError: shards/birds: two faults
  the first
the second
"""


@pytest.fixture
def planned(small):
    write_atomically(small.out / "plan.json", record_json(small.plan.record()))
    return small


def shown(out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the words of each run's line after its label, and the last line of stdout and of stderr."""
    assert invoke(["status", str(out), *options]) == 0
    captured = capsys.readouterr()
    runs = [line.partition(", seed ") for line in captured.out.splitlines()[1:-1]]
    lines = {f"{name} {rest.split()[0]}": rest.split()[1:] for name, _, rest in runs}
    return lines, [captured.out.splitlines()[-1], captured.err.splitlines()[-1]]


def test_nothing_has_begun(planned, capsys):
    before = {file: file.stat().st_mtime_ns for file in planned.out.rglob("*")}
    lines, (summary, following) = shown(planned.out, capsys)
    cells = ["base", "grad_cam sigma_grad_cam=0.25", "grad_cam sigma_grad_cam=0.5"]
    assert list(lines) == [
        *("pretrain 0", "decoder 0", "pretrain 1", "decoder 1"),
        *(f"{cell} {seed}" for cell in cells for seed in (0, 1)),
    ]
    assert lines["pretrain 0"] == ["PENDING"]
    assert lines["decoder 1"] == ["WAITING", "needs", "pretrain,", "seed", "1"]
    needs = ["needs", "pretrain,", "seed", "0", "and", "decoder,", "seed", "0"]
    assert lines["grad_cam sigma_grad_cam=0.5 0"] == ["WAITING", *needs]
    assert summary == "10 runs: 2 pending, 8 waiting"
    assert following == f"next: fgssl sweep SWEEP.yaml --out {planned.out}  # go on with the same sweep and settings"
    assert {file: file.stat().st_mtime_ns for file in planned.out.rglob("*")} == before


def test_the_command_to_go_on_names_the_preset_and_quotes_the_folder(tmp_path, planned, capsys):
    out = tmp_path / "my sweep"
    out.mkdir()
    (out / "plan.json").write_text(record_json(dataclasses.replace(planned.plan.record(), preset="demo")))
    _, (_, following) = shown(out, capsys)
    assert following.startswith(f"next: fgssl sweep SWEEP.yaml --preset demo --out '{out}'  # go on")


def test_a_sweep_at_work(planned, capsys):
    first, second = (planned.run("pretrain", seed) for seed in (0, 1))
    config = {run.run: run.config for run in planned.plan.runs}
    batch = config[first].training.global_batch_size
    progress = Progress(step=20, total_steps=100, loss=1.0, images_per_s=batch / 2, updated=time.time())
    submission = planned.out / "jobs" / "now"
    submission.mkdir(parents=True)
    folder = RunFolder.in_output(planned.out, first)
    with folder.lease(config[first]) as lease, (submission / "alive").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines, _ = shown(planned.out, capsys)
        assert lines["pretrain 0"] == ["RUNNING", "starting"]
        lease.write_record(PROGRESS, progress)
        stopped = RunFolder.in_output(planned.out, second)
        (stopped.checkpoints / "step-00000005").mkdir(parents=True)
        lines, (summary, following) = shown(planned.out, capsys)
        assert lines["pretrain 0"] == ["RUNNING", "20/100", "2:40"]
        assert lines["pretrain 1"] == ["INTERRUPTED"]
        assert summary == "10 runs: 1 interrupted, 8 waiting, 1 running"
        table = planned.out / "table.md"
        assert following == f"next: fgssl aggregate {planned.out}  # write {table} from the runs that are done"
        lease.write_record(PROGRESS, Progress(**{**vars(progress), "step": 100}))
        assert shown(planned.out, capsys)[0]["pretrain 0"] == ["RUNNING", "100/100", "0:00", "evaluating"]


def test_what_failed_and_what_is_done(planned, capsys):
    runs = {run.run: run for run in planned.plan.runs}
    execute(runs[planned.run("pretrain", 0)].config, planned.out)
    failed = RunFolder.in_output(planned.out, planned.run("pretrain", 1))
    with failed.lease(runs[failed.path.name].config) as lease:
        lease.write("failure.txt", TRACEBACK)
    lines, (summary, _) = shown(planned.out, capsys)
    assert "pretrain 0" not in lines
    assert lines["pretrain 1"] == ["FAILED", *["fgssl.errors.DataError:", "shards/birds:", "two", "faults"]]
    assert lines["base 1"] == ["SKIPPED", "needs", "pretrain,", "seed", "1"]
    assert summary == "10 runs: 2 pending, 2 waiting, 1 done, 1 failed, 4 skipped"
    assert shown(planned.out, capsys, "--done")[0]["pretrain 0"] == ["DONE"]


def test_all_is_done(planned, capsys):
    for run in planned.plan.runs:
        execute(run.config, planned.out)
    assert invoke(["status", str(planned.out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "10 runs: 10 done\n"
    assert captured.err.startswith(f"next: fgssl aggregate {planned.out}")


def test_a_folder_without_a_sweep(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: holds no sweep (plan.json is missing): give the output folder of a sweep (--out of "
        "`fgssl sweep`, by default outputs/NAME-PRESET)\n"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (TRACEBACK, "fgssl.errors.DataError: shards/birds: two faults"),
        (f"{KILLED}; the end of log:\nTraceback\n", f"{KILLED}; the end of log:"),
        ("", "no traceback was kept"),
    ],
)
def test_the_headline_of_a_failure(failure: str, line: str) -> None:
    assert headline(failure) == line


@pytest.mark.parametrize("width", [50, 80])
def test_a_long_reason_never_takes_the_room_of_the_others(planned, capsys, monkeypatch, width):
    monkeypatch.setattr("fgssl.commands.status._WIDTH_OF_A_FILE", width)
    reason = "training.global_batch_size: 128 exceeds the 80 training images, which do not fill one batch: take 80"
    for run in planned.plan.runs[:4]:
        if run.stage == "pretrain":
            with RunFolder.in_output(planned.out, run.run).lease(run.config) as lease:
                lease.write("failure.txt", f"{reason}\n")
    assert invoke(["status", str(planned.out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line.split() for line in lines if line.startswith("pretrain, seed 0 ")) == [
        *("pretrain,", "seed", "0", "FAILED", "training.global_batch..."),
    ]
    assert sum("grad_cam sigma_grad_cam=0.25, seed" in line and "SKIPPED" in line for line in lines) == 2
    place = lines.index("2 runs: pretrain, seed 0; pretrain, seed 1:")  # told once, whole
    assert lines[place + 1] == f"  {reason}"
