"""Records that are cut short at any byte: no traceback, no result of another run lost, no second job.

The quick tests cut at a few bytes of each file, the slow ones at about 50, and with FGSSL_EVERY_BYTE set at every byte,
which takes five minutes of a processor.
"""

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fgssl.__main__ import main
from fgssl.report.rows import Row, collect_rows
from fgssl.store.files import record_json, warn_once
from fgssl.store.plan import read_plan
from fgssl.store.records import Progress
from fgssl.store.run_folder import RunFolder
from hpc.cluster import cluster_sweep
from hpc.cluster.job_store import JobStore, Launch
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.status import ClusterState
from hpc.cluster.sync import observe_sweep
from tests.hpc.conftest import SmallSweep
from tests.hpc.fake_slurm.cluster import FakeSlurm
from tests.hpc.results import write_results

MANY = pytest.param(None if "FGSSL_EVERY_BYTE" in os.environ else 50, marks=pytest.mark.slow, id="many")
CUTS = pytest.mark.parametrize("cuts", [1, MANY])
"""Number of cuts in a file, besides those at its ends; None cuts at every byte."""


def cut(file: Path, cuts: int | None) -> Iterator[bytes]:
    """Cut a file at one byte after the other, yield what is left of it each time, and restore it at the end."""
    whole = file.read_bytes()
    size = len(whole)
    for end in (
        range(size) if cuts is None else {0, 1, size - 2, size - 1, *range(size // 2, size, max(1, size // cuts))}
    ):
        file.write_bytes(whole[:end])
        warn_once.cache_clear()
        yield whole[:end]
    file.write_bytes(whole)


def is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def results(folder: RunFolder) -> list[Path]:
    return sorted([folder.path / "trained.json", *folder.path.glob("evaluation-*.json")])


# ------------------------------------------------------------------------------------ on this machine


@pytest.fixture
def finished(small: SmallSweep) -> SmallSweep:
    """Return a finished sweep, of which one run has left a record of its progress too."""
    (small.out / "plan.json").write_text(record_json(small.plan.record()))
    for run in small.plan.runs:
        folder = RunFolder.in_output(small.out, run.run)
        measures = (
            {column.name: 50.0 + run.seed for column in run.config.evaluation.columns} if run.config.evaluation else {}
        )
        write_results(folder.path, folder.results([run.config]), measures)
    return small


def rows_by_run(out: Path) -> dict[str, Row]:
    plan = read_plan(out)
    names = [run.run for cell in plan.cells for run in cell.runs]
    return dict(zip(names, collect_rows(plan, out), strict=True))


@CUTS
@pytest.mark.parametrize("cell", ["base", pytest.param("pretrain", marks=pytest.mark.slow)])
def test_results_of_a_sweep_here(
    finished: SmallSweep, cell: str, cuts: int | None, capfd: pytest.CaptureFixture[str]
) -> None:
    out, run = finished.out, finished.run(cell)
    whole = rows_by_run(out)
    assert {row["state"] for row in whole.values()} == {"DONE"}
    for file in results(RunFolder.in_output(out, run)):
        for content in cut(file, cuts):
            capfd.readouterr()
            assert main(["status", str(out), "--done"]) == 0
            assert main(["aggregate", str(out)]) == 0
            told = capfd.readouterr()
            rows = rows_by_run(out)
            damaged = not is_json(content)
            assert told.err.count(f"WARNING: {file}: ") == damaged, (content, told.err)
            assert f"{len(finished.plan.runs) - damaged} done" in told.out, (content, told.out)
            assert {**rows, run: None} == {**whole, run: None}
            if run in whole:
                assert rows[run]["state"] == ("MISSING" if damaged else "DONE"), content
                assert damaged or rows[run] == whole[run]


@CUTS
def test_the_plan_of_a_sweep_here(finished: SmallSweep, cuts: int | None, capfd: pytest.CaptureFixture[str]) -> None:
    file = finished.out / "plan.json"
    for content in cut(file, cuts):
        for command in ("status", "aggregate"):
            capfd.readouterr()
            status, told = main([command, str(finished.out)]), capfd.readouterr()
            assert status == (0 if is_json(content) else 2), content
            assert is_json(content) or told.err.startswith(f"error: {file}: "), told.err


# --------------------------------------------------------------------------------------- on a cluster


@pytest.fixture
def submitted(sweep_file: Path, tmp_path: Path, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a sweep whose stage `pretrain` is done, while jobs of all other runs are in the queue.

    It has records of every kind. The scheduler's answers are kept, since each takes as long as twenty cuts.
    """
    out = tmp_path / "out"
    given = ["settings.resources.device=cpu", "--cluster", "generic", "cluster.submit_from_jobs=allowed"]
    assert main(["sweep", str(sweep_file), *given, "--out", str(out)]) == 0
    store, sweep = JobStore(out), cluster_sweep.read(out)
    runs = {run.run: run for run in sweep.runs}
    order = store.orders()[0]
    for number, element in enumerate(order.elements):
        run = runs[element.runs[0]]
        assert run.label.startswith("pretrain")
        write_results(out / "runs" / run.run, run.results)
        launch = Launch(order.token, number, 0, 0, 1.0, 2.0, nodes="n1", first_step=0, ended=2.0, exit_code=0)
        store.write_launch(launch)
        fake_slurm.start(order.job_id_of(number) or "", "n1")
        fake_slurm.finish(order.job_id_of(number) or "")
    waiting = store.orders()[1].elements[0].runs[0]
    store.note_canceled(order, [0])
    store.note_refused({waiting: "no"})
    store.retry([order.elements[0].runs[0]])
    progress = Progress(step=1, total_steps=2, loss=0.5, images_per_s=10.0, updated=1.0)
    (out / "runs" / waiting).mkdir(parents=True)
    (out / "runs" / waiting / "progress.json").write_text(record_json(progress))
    for name in ("facts", "submitter", "up_since"):
        monkeypatch.setattr(Slurm, name, kept(getattr(Slurm, name)))
    return out


def kept(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that calls the original once for each value of its arguments, which may be lists."""
    answer = functools.cache(lambda *arguments: method(Slurm(), *arguments))
    return lambda self, *arguments: answer(*map(tuple, arguments))


def states(out: Path) -> dict[str, ClusterState]:
    return {name: status.state for name, status in observe_sweep(out).runs.items()}


@CUTS
def test_results_of_a_submitted_sweep(submitted: Path, cuts: int | None, capfd: pytest.CaptureFixture[str]) -> None:
    whole = states(submitted)
    assert sorted(whole.values()) == ["DONE"] * 2 + ["PENDING"] * 8
    run = next(iter(whole))
    [file] = results(RunFolder.in_output(submitted, run))
    for content in cut(file, cuts):
        capfd.readouterr()
        assert main(["status", str(submitted)]) == main(["aggregate", str(submitted)]) == 0
        found, damaged = states(submitted), not is_json(content)
        assert capfd.readouterr().err.count(f"WARNING: {file}: ") == damaged, content
        assert (found.pop(run) is not ClusterState.DONE) == damaged, content
        assert found == {name: state for name, state in whole.items() if name != run}


@CUTS
def test_other_records_of_a_submitted_sweep(
    submitted: Path, cuts: int | None, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = states(submitted)
    for pattern in ("launches/*.json", "orders/*.canceled", "retried/*", "refused.json", "../runs/*/progress.json"):
        [file, *_] = sorted((submitted / "cluster").glob(pattern))
        for content in cut(file, cuts):
            capfd.readouterr()
            assert main(["status", str(submitted)]) == 0
            told = capfd.readouterr().err
            assert file.name == "progress.json" or f"WARNING: {file}: " in told or is_json(content), (content, told)
            assert states(submitted) == whole
    file = submitted / "cluster" / "sweep.json"
    for content in cut(file, cuts):
        capfd.readouterr()
        assert main(["logs", str(submitted)]) == (0 if is_json(content) else 2), content
        assert is_json(content) or capfd.readouterr().err.startswith(f"error: {file}: "), content


@CUTS
def test_orders(submitted: Path, fake_slurm: FakeSlurm, cuts: int | None, capfd: pytest.CaptureFixture[str]) -> None:
    """A run that is done stays so; a run whose order cannot be read is not submitted again."""
    whole, jobs = states(submitted), fake_slurm.calls("sbatch")
    store = JobStore(submitted)
    for order in store.orders()[:2]:
        file, theirs = store.order_file(order.token), {run for element in order.elements for run in element.runs}
        for content in cut(file, cuts):
            capfd.readouterr()
            assert main(["status", str(submitted)]) == main(["aggregate", str(submitted)]) == 0
            if is_json(content):
                assert states(submitted) == whole
                continue
            assert capfd.readouterr().err.count(f"WARNING: {file}: ") == 1, content
            for name, state in states(submitted).items():
                forgotten = name in theirs and whole[name] is not ClusterState.DONE
                assert state is (ClusterState.WAITING if forgotten else whole[name]), (name, content)
            for command in ("sync", "retry"):
                assert main([command, str(submitted)]) == 2
                assert capfd.readouterr().err.startswith(f"error: {file}: "), (command, content)
    assert fake_slurm.calls("sbatch") == jobs
