"""Program of a job, at its start and when interrupted: real processes, a fake Slurm, and runs without training."""

import dataclasses
import errno
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fgssl.errors import EXIT_OUT_OF_HANDS
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import ClusterRun, ClusterSweep
from hpc.cluster.job_scripts import order_script
from hpc.cluster.job_store import Element, JobStore, Launch, Order, new_order
from hpc.cluster.observe import observe
from hpc.cluster.schedulers.scheduler import JobRequest
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.status import ClusterState, RunStatus
from hpc.cluster.sync import synchronize
from tests.hpc.fake_slurm.cluster import FakeSlurm
from tests.slurm.small_sweep import ROOT, SWEEP, freeze_fake_code, written_sweep

GIVEN_UP = 3
ONE_PROCESS = ("jobs.decoder.nodes=1", "jobs.decoder.processes_per_node=1")
STEPS = 10


@dataclass
class Submitter:
    """Creator of orders for the first two runs of a sweep, which need no other run."""

    out: Path
    sweep: ClusterSweep
    store: JobStore
    slurm: FakeSlurm

    @property
    def runs(self) -> tuple[ClusterRun, ...]:
        return self.sweep.runs[:2]

    def intend(self, request: JobRequest, *runs: ClusterRun) -> Order:
        elements = [Element(tuple(run.run for run in runs), (1,) * len(runs))]
        return self.store.intend(new_order("small", request, elements))

    def submit(self, order: Order, request: JobRequest) -> str:
        file = self.store.order_file(order.token).with_suffix(".sh")
        file.write_text(Slurm().script(order_script(self.sweep, self.store, order, request)))
        job = Slurm().submit(file)
        self.store.note_id(order, job)
        return job

    def order(self) -> tuple[Order, str]:
        """Return an order for the first run, and its job."""
        first = self.runs[0]
        order = self.intend(first.request, first)
        return order, self.submit(order, first.request)

    def executed(self) -> int:
        """Return the number of times a run was started."""
        log = self.out / "executed.log"
        return sum(map(bool, log.read_text().splitlines())) if log.exists() else 0

    def done(self, run: ClusterRun) -> bool:
        return (self.out / "runs" / run.run / "trained.json").exists()


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return freeze_fake_code(tmp_path_factory.mktemp("code"))


@pytest.fixture
def submitter(tmp_path: Path, fake_slurm: FakeSlurm, code: Path) -> Submitter:
    return _submitter(tmp_path / "out", fake_slurm, code)


def _submitter(out: Path, fake_slurm: FakeSlurm, code: Path, *profile: str) -> Submitter:
    _, sweep = written_sweep(out, code, SWEEP, *ONE_PROCESS, profile=profile)
    (out / "steps").write_text(str(STEPS))
    return Submitter(out, sweep, JobStore(out), fake_slurm)


def wait_for(true: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def test_a_job_does_its_run(submitter: Submitter) -> None:
    """Without which the tests below would show nothing."""
    order, job = submitter.order()
    assert submitter.slurm.run(job) == 0, submitter.store.log(order.token, 0).read_text()
    assert submitter.done(submitter.runs[0])
    assert submitter.executed() == 1


def test_a_job_that_got_gpus_and_sees_none_leaves(submitter: Submitter, tmp_path: Path, code: Path) -> None:
    """Another node may have them; `device: auto` would train without, for days."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    _, submitter.sweep = written_sweep(submitter.out, code, SWEEP, *ONE_PROCESS, "settings.resources.device=auto")
    assert submitter.runs[0].request.gpus_per_node == 1
    order, job = submitter.order()
    assert submitter.slurm.run(job) == EXIT_OUT_OF_HANDS
    assert "torch finds none" in submitter.store.log(order.token, 0).read_text()
    assert submitter.executed() == 0
    view = observe(submitter.sweep, submitter.out, submitter.store, Slurm()).runs[submitter.runs[0].run]
    assert (view.state, view.to_submit) == (ClusterState.LOST, True)
    assert "torch finds none" in view.reason


def test_patterns_of_sbatch_in_the_output_folder(tmp_path: Path, fake_slurm: FakeSlurm, code: Path) -> None:
    (tmp_path / "a").mkdir()
    submitter = _submitter(tmp_path / "a" / ".." / "o%u %j it's {task}", fake_slurm, code)
    order, job = submitter.order()
    assert submitter.slurm.run(job) == 0
    assert submitter.done(submitter.runs[0])
    assert submitter.runs[0].run in submitter.store.log(order.token, 0).read_text()


def never_began(submitter: Submitter, job: str) -> str:
    """Return the reason why a job failed before its run began; it is not tried again, and its node not blamed."""
    assert submitter.slurm.run(job) != 0
    assert submitter.executed() == 0
    view = observe(submitter.sweep, submitter.out, submitter.store, Slurm()).runs[submitter.runs[0].run]
    assert (view.state, view.to_submit, view.lost_on) == (ClusterState.FAILED, False, ())
    return view.reason


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ("venv='/no/such venv'", 'source "/no/such venv/bin/activate"'),
        ("setup=['test -d /no  # mine', echo on]", "test -d /no"),
        ("setup=[set -e, test -d /no]", "test -d /no"),
        ("setup=['stop() { :; }', start_file=/dev/null, test -d /no]", "test -d /no"),  # no names of the script
        ("variables={A: $(exit 7)}", 'A="$(exit 7)"'),
        ("modules=[none]", "module load none"),
    ],
)
def test_a_line_of_the_environment_that_fails_stops_the_job(
    environment: str, line: str, tmp_path: Path, fake_slurm: FakeSlurm, code: Path
) -> None:
    submitter = _submitter(tmp_path / "out", fake_slurm, code, f"cluster.environment.{environment}")
    order, job = submitter.order()
    assert never_began(submitter, job).endswith(f"of the job environment: {line}")
    log = submitter.store.log(order.token, 0).read_text()
    assert line in log
    assert "\non\n" not in log


def test_a_python_that_does_not_exist_fails_the_run(tmp_path: Path, fake_slurm: FakeSlurm, code: Path) -> None:
    submitter = _submitter(tmp_path / "out", fake_slurm, code, "cluster.environment.python=/no/python")
    _, job = submitter.order()
    assert never_began(submitter, job) == "its job could not start Python; see its log"


def test_an_environment_may_hold_lines_that_fail_as_they_should(
    tmp_path: Path, fake_slurm: FakeSlurm, code: Path
) -> None:
    (tmp_path / "sourced").write_text("false\ntrue\n")
    lines = [f"source {tmp_path}/sourced", "if false; then", "  exit 5", "else", "  false || true", "fi # x", "set -eu"]
    submitter = _submitter(tmp_path / "out", fake_slurm, code, f"cluster.environment.setup={json.dumps(lines)}")
    _, job = submitter.order()
    assert submitter.slurm.run(job) == 0
    assert submitter.done(submitter.runs[0])


@pytest.mark.parametrize("file", ["fgssl/collectives.py", "pydantic.py"])
def test_a_package_that_cannot_be_imported_fails_the_run(file: str, submitter: Submitter, code: Path) -> None:
    """After the run's launch was recorded (torch), and before anything could be (pydantic)."""
    broken = shutil.copytree(code, submitter.out / "code" / "broken")
    (broken / file).write_text("raise ImportError('libcudart.so.12: no such file')")
    submitter.sweep = dataclasses.replace(submitter.sweep, code="code/broken")
    _, job = submitter.order()
    assert never_began(submitter, job) == "ImportError: libcudart.so.12: no such file"


@pytest.mark.parametrize("file", ["fgssl/collectives.py", "fgssl/errors.py"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_passing_error_of_a_node_fails_no_run(number: int, file: str, submitter: Submitter, code: Path) -> None:
    """After the run's launch was recorded, and before the exit code could even be imported."""
    view = _lost_by(f"raise OSError({number}, 'of this node')", file, submitter, code)
    assert (view.state, view.to_submit) == (ClusterState.LOST, True)


def test_a_job_that_yields_to_another_blames_no_node(submitter: Submitter, code: Path) -> None:
    error = "from fgssl.errors import LeaseError\nraise LeaseError('a newer job has worked here')"
    view = _lost_by(error, "fgssl/collectives.py", submitter, code)
    assert (view.state, view.to_submit, view.lost_on) == (ClusterState.LOST, True, ())


def test_a_node_that_cannot_read_its_lease_is_blamed(submitter: Submitter, code: Path) -> None:
    error = f"from fgssl.errors import LeaseError\nraise LeaseError('unreadable') from OSError({errno.EIO}, 'stale')"
    view = _lost_by(error, "fgssl/collectives.py", submitter, code)
    assert (view.state, len(view.lost_on)) == (ClusterState.LOST, 1)


def _lost_by(error: str, file: str, submitter: Submitter, code: Path) -> RunStatus:
    """Return the status of a run whose job met an error while it imported `file`."""
    broken = shutil.copytree(code, submitter.out / "code" / "broken")
    (broken / file).write_text(error)
    submitter.sweep = dataclasses.replace(submitter.sweep, code="code/broken")
    _, job = submitter.order()
    submitter.slurm.run(job)
    return observe(submitter.sweep, submitter.out, submitter.store, Slurm()).runs[submitter.runs[0].run]


def test_a_job_that_cannot_write_before_its_run_is_lost(submitter: Submitter, code: Path) -> None:
    """It would repeat a failure's record for its next restart, for example."""
    broken = shutil.copytree(code, submitter.out / "code" / "broken")
    store = broken / "hpc" / "cluster" / "job_store.py"
    full = "def _full(*_):\n    raise UserError('no space left')\n\nJobStore.write_launch = _full\n"
    store.write_text(f"{store.read_text()}\n{full}")
    submitter.sweep = dataclasses.replace(submitter.sweep, code="code/broken")
    packed = dataclasses.replace(submitter.runs[0].request, tasks_per_node=2, runs=2)
    order = submitter.intend(packed, *submitter.runs)
    job = submitter.submit(order, packed)
    submitter.slurm.start(job)
    for slot in range(2):
        submitter.store.write_launch(Launch(order.token, 0, slot, 0, 1.0, 2.0, "n1", 0, ended=1.5, exit_code=1))
    submitter.slurm.requeue(job)
    assert submitter.slurm.launch(job).wait(60) == EXIT_OUT_OF_HANDS


def test_frozen_code_that_is_gone_stops_the_job(submitter: Submitter, code: Path) -> None:
    (submitter.out / submitter.sweep.code).unlink()
    _, job = submitter.order()
    assert "no such folder, so the frozen code is gone" in never_began(submitter, job)


def test_a_working_directory_that_is_gone_stops_the_job(submitter: Submitter, tmp_path: Path) -> None:
    submitter.sweep = dataclasses.replace(submitter.sweep, folder=str(tmp_path / "gone"))
    _, job = submitter.order()
    assert never_began(submitter, job).endswith(f"of the job environment: cd {tmp_path / 'gone'}")


def test_code_that_is_not_frozen_is_never_run(submitter: Submitter) -> None:
    first = submitter.runs[0]
    order = submitter.intend(first.request, first)
    start = submitter.store.start_file(order.token, 0)
    command = [sys.executable, "-m", "hpc.cluster.job", str(submitter.store.order_file(order.token)), str(start)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 1
    assert "job.py is running instead of the code frozen in" in start.read_text()


@pytest.mark.parametrize("absolute", [False, True])
def test_a_moved_output_folder_keeps_its_frozen_code(absolute: bool, submitter: Submitter, tmp_path: Path) -> None:
    """Earlier versions recorded an absolute path."""
    if absolute:
        sweep = dataclasses.replace(submitter.sweep, code=str(submitter.out / submitter.sweep.code))
        cluster_sweep.write(sweep, submitter.out)
    name = Path(submitter.sweep.code).name
    submitter.out = submitter.out.rename(tmp_path / "moved")
    submitter.store = JobStore(submitter.out)
    assert submitter.runs[0].run in _ordered(submitter)
    (order,) = [order for order in submitter.store.orders() if submitter.runs[0].run in order.elements[0].runs]
    assert submitter.slurm.run(order.job_id_of(0) or "") == 0
    record = json.loads((submitter.out / "executed.log").read_text())
    assert Path(record["code"]).is_relative_to(tmp_path / "moved" / "code" / name)


def test_a_job_notes_its_number_where_its_submitter_was_killed_before(submitter: Submitter) -> None:
    order, job = submitter.order()
    submitter.store.order_file(order.token).with_suffix(".id").unlink()
    assert submitter.slurm.run(job) == 0
    (order,) = submitter.store.orders()
    assert order.job_id == job


def test_a_job_whose_order_was_given_up_does_nothing(submitter: Submitter) -> None:
    order, job = submitter.order()
    submitter.store.abandon(order)
    assert submitter.slurm.run(job) == GIVEN_UP
    assert "its order was abandoned" in submitter.store.log(order.token, 0).read_text()
    assert submitter.executed() == 0
    assert list(submitter.store.launches()) == []


def test_a_job_whose_run_was_canceled_does_nothing(submitter: Submitter) -> None:
    order, job = submitter.order()
    submitter.store.cancel([submitter.runs[0].run])
    assert submitter.slurm.run(job) == GIVEN_UP
    assert "canceled: nothing to do" in submitter.store.log(order.token, 0).read_text()
    assert submitter.executed() == 0
    assert list(submitter.store.launches()) == []


def test_what_never_reached_the_scheduler_is_ordered_anew_and_comes_too_late(
    submitter: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its submitter was killed while sbatch was on its way, which comes there after the order was given up."""
    first = submitter.runs[0]
    late = submitter.intend(first.request, first)
    assert first.run not in _ordered(submitter)  # it may still come
    monkeypatch.setattr("hpc.cluster.decide._INTENT_AGE_S", 0.0)
    assert first.run in _ordered(submitter)
    job = submitter.submit(late, first.request)
    assert submitter.slurm.run(job) == GIVEN_UP
    assert submitter.executed() == 0
    valid = [order for order in submitter.store.orders() if not order.abandoned]
    (anew,) = [order for order in valid if first.run in order.elements[0].runs]
    assert submitter.slurm.run(anew.job_id_of(0) or "") == 0
    assert submitter.done(first)


def _ordered(submitter: Submitter) -> set[str]:
    """Return the runs that have a job after another pass."""
    synchronize(submitter.out)
    orders = [order for order in submitter.store.orders() if order.job_id is not None]
    return {run for order in orders for element in order.elements for run in element.runs}


@pytest.mark.parametrize("canceled", [False, True])
def test_told_to_stop_a_job_goes_back_to_the_queue_unless_its_run_was_canceled(
    submitter: Submitter, canceled: bool
) -> None:
    order, job = submitter.order()
    run = submitter.runs[0].run
    (submitter.out / "behavior.json").write_text(f'{{"{run}": "endless"}}')
    process = submitter.slurm.launch(job)
    try:
        wait_for(
            (submitter.out / "runs" / run / "checkpoints" / f"step-{STEPS:08}" / "state").exists,
            lambda: submitter.store.log(order.token, 0).read_text(),
        )
        if canceled:
            submitter.store.cancel([run])
        Slurm().signal(job, "USR2")
        submitter.slurm.ended(job, process.wait(30))
    finally:
        process.kill()
        process.wait()
    assert submitter.slurm.job(job)["state"] == ("FAILED" if canceled else "PENDING")
    assert submitter.slurm.calls("scontrol") == ([] if canceled else [["scontrol", "requeue", job]])
    assert list((submitter.store.folder / "requeue").iterdir()) == []  # for the next time
    if not canceled:
        (submitter.out / "go").touch()
        assert submitter.slurm.run(job) == 0
        assert submitter.executed() == 2
        assert submitter.done(submitter.runs[0])


@pytest.mark.parametrize(("exit_code", "again"), [(1, False), (2, False), (74, True), (75, True), (None, True)])
def test_put_back_for_a_neighbor_a_job_does_not_try_again_what_failed_by_its_own_fault(
    submitter: Submitter, exit_code: int | None, again: bool
) -> None:
    """Nor does it leave out what was interrupted, could not write, or had no time to tell how it ended."""
    packed = dataclasses.replace(submitter.runs[0].request, tasks_per_node=2, runs=2)
    order = submitter.intend(packed, *submitter.runs)
    job = submitter.submit(order, packed)
    submitter.slurm.start(job)
    submitter.store.write_launch(
        Launch(order.token, 0, 0, 0, started=1.0, time_up=2.0, nodes="n1", first_step=0, ended=1.5, exit_code=exit_code)
    )
    for _ in range(1 if again else 2):
        submitter.slurm.requeue(job)
        submitter.slurm.launch(job).wait(60)
    assert submitter.executed() == again
    assert submitter.done(submitter.runs[0]) == again
