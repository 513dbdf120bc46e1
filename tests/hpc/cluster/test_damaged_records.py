"""Damaged files of a sweep: every command names the file, and goes on unless a job could be lost or made twice."""

import dataclasses
import json
from pathlib import Path

import pytest

from fgssl.__main__ import main
from fgssl.store.files import record_json, warn_once
from fgssl.store.records import Progress
from hpc.cluster import cluster_sweep
from hpc.cluster.job_store import JobStore, Launch
from hpc.cluster.status import ClusterState
from hpc.cluster.sync import observe_sweep
from tests.hpc.fake_slurm.cluster import FakeSlurm
from tests.hpc.results import write_results

READING = ("status", "logs", "sync", "retry", "cancel")
DAMAGES = (b"", b'{"runs": [1', b"\xff\xfe\x00", b"[1]")


@pytest.fixture
def out(sweep_file: Path, tmp_path: Path, fake_slurm: FakeSlurm) -> Path:
    """Return a sweep's folder with one record of each kind, some of them for its second run."""
    out = tmp_path / "out"
    given = ["settings.resources.device=cpu", "--cluster", "generic", "cluster.submit_from_jobs=allowed"]
    assert main(["sweep", str(sweep_file), *given, "--out", str(out)]) == 0
    store = JobStore(out)
    order = store.orders()[0]
    run = order.elements[1].runs[0]
    store.note_canceled(order, [0])
    store.note_refused({run: "no"})
    store.write_launch(Launch(order.token, 1, 0, 0, started=1.0, time_up=2.0, nodes="n1", first_step=0))
    (store.folder / "retried" / run).write_text(json.dumps(1.0))
    folder = out / "runs" / run
    (folder / "checkpoints" / "step-junk").mkdir(parents=True)
    progress = Progress(step=1, total_steps=2, loss=0.5, images_per_s=10.0, updated=1.0)
    (folder / "progress.json").write_text(record_json(progress))
    return out


@pytest.mark.parametrize(
    ("pattern", "refusing"),
    [
        ("cluster/sweep.json", READING),
        ("cluster/orders/*.json", ("sync", "retry", "cancel")),  # its jobs may run, and nobody knows whose they are
    ],
)
def test_commands_that_need_a_damaged_record_name_it(
    out: Path, fake_slurm: FakeSlurm, pattern: str, refusing: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    [file, *_] = sorted(out.glob(pattern))
    jobs = fake_slurm.jobs().keys()
    for damage in DAMAGES:
        file.write_bytes(damage)
        for command in READING:
            warn_once.cache_clear()
            capfd.readouterr()
            status = main([command, str(out)])
            told = capfd.readouterr().err
            assert status == (2 if command in refusing else 0), (command, damage, told)
            assert told.startswith("error: " if command in refusing else "WARNING: "), (command, damage, told)
            assert told.count(str(file)) == 1, (command, damage, told)
    assert fake_slurm.jobs().keys() == jobs
    assert fake_slurm.calls("scancel") == []


@pytest.mark.parametrize(
    "pattern", ["orders/*.id", "launches/*", "orders/*.canceled", "retried/*", "refused.json", "keeper.id"]
)
def test_commands_go_on_after_a_warning(
    out: Path, fake_slurm: FakeSlurm, pattern: str, capfd: pytest.CaptureFixture[str]
) -> None:
    [file, *_] = sorted((out / "cluster").glob(pattern))
    jobs = fake_slurm.jobs().keys()
    for damage in DAMAGES:
        file.write_bytes(damage)
        warn_once.cache_clear()
        capfd.readouterr()
        assert main(["sync", str(out)]) == 0
        assert f"WARNING: {file}: " in capfd.readouterr().err
        assert fake_slurm.jobs().keys() == jobs  # no second job, no second keeper


@pytest.mark.parametrize("name", ["notes.txt", "notes-a.txt", "copy.json", "copy-a-b-c.json"])
def test_a_stray_file_beside_the_launches_is_skipped(out: Path, name: str) -> None:
    (out / "cluster" / "launches" / name).write_text("{")
    for command in READING:
        assert main([command, str(out)]) == 0


def test_nothing_hangs_on_damaged_progress(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    [file] = out.glob("runs/*/progress.json")
    file.write_text("{")
    capfd.readouterr()
    assert main(["status", str(out)]) == 0
    assert str(file) not in capfd.readouterr().err


def test_a_job_with_a_damaged_launch_is_not_abandoned(out: Path, fake_slurm: FakeSlurm) -> None:
    """Also when the job id was lost, and the scheduler has long forgotten the job."""
    store = JobStore(out)
    order = store.orders()[0]
    [launch] = (out / "cluster" / "launches").iterdir()
    launch.write_text("")
    store.order_file(order.token).with_suffix(".id").write_text("")
    old = dataclasses.replace(order, created=1.0)
    store.order_file(order.token).write_text(record_json(old))
    fake_slurm.configure(accounting="none")
    for number in range(len(order.elements)):
        fake_slurm.start(order.job_id_of(number) or "", "n1")
        fake_slurm.finish(order.job_id_of(number) or "")
        fake_slurm.forget(order.job_id_of(number) or "")
    assert main(["sync", str(out)]) == 0
    assert not store.read_order(store.order_file(order.token)).abandoned


def test_a_run_whose_results_are_damaged_is_made_again(
    out: Path, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no other one; the node where its job ended well is not blamed."""
    store, sweep = JobStore(out), cluster_sweep.read(out)
    order = store.orders()[0]
    for number, element in enumerate(order.elements):
        [run] = [run for run in sweep.runs if run.run in element.runs]
        write_results(out / "runs" / run.run, run.results)
        store.write_launch(
            Launch(order.token, number, 0, 0, 1.0, 2.0, nodes="n1", first_step=0, ended=2.0, exit_code=0)
        )
        fake_slurm.start(order.job_id_of(number) or "", "n1")
        fake_slurm.finish(order.job_id_of(number) or "")
    monkeypatch.setattr("hpc.cluster.status._VISIBLE_WITHIN_S", -1.0)
    damaged = order.elements[1].runs[0]
    (out / "runs" / damaged / sweep.runs[0].results[0]).write_text("")
    before = fake_slurm.jobs().keys()
    status = observe_sweep(out).runs[damaged]
    assert (status.state, status.lost_on) == (ClusterState.LOST, ())
    assert status.reason.startswith("its job ended well, but its results are damaged or missing")
    assert main(["sync", str(out)]) == 0
    [new] = [job for job in store.orders() if job.job_id not in {old.partition("_")[0] for old in before}]
    assert [element.runs for element in new.elements] == [(damaged,)]
