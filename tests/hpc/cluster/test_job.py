"""What a job does when it begins and when it is told to stop: real processes under a fake Slurm, runs that train
nothing."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fgssl.errors import EXIT_OUT_OF_HANDS
from hpc.cluster.cluster_sweep import ClusterRun, ClusterSweep
from hpc.cluster.job_store import Attempt, Books, Element, Order
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.site.requests import JobRequest
from hpc.cluster.states import ClusterState
from hpc.cluster.submission import Submission
from hpc.cluster.sync import synchronize, views_of
from tests.hpc.fake_slurm.cluster import FakeSlurm
from tests.slurm.test_sweep import SWEEP, freeze_fake_code, written_sweep

GIVEN_UP = 3
ONE_PROCESS = ("jobs.decoder.nodes=1", "jobs.decoder.processes_per_node=1")
STEPS = 10


@dataclass
class Submitter:
    """Gives orders for the first two runs of a sweep, which need no other, by hand."""

    out: Path
    sweep: ClusterSweep
    books: Books
    slurm: FakeSlurm

    @property
    def runs(self) -> tuple[ClusterRun, ...]:
        return self.sweep.runs[:2]

    def intend(self, request: JobRequest, *runs: ClusterRun) -> Order:
        return self.books.intend("small", request, [Element(tuple(run.run for run in runs), (1,) * len(runs))])

    def submit(self, order: Order, request: JobRequest) -> str:
        job = Submission(self.books, Path(self.sweep.code), Slurm()).submit(order, request)
        self.books.note_id(order, job)
        return job

    def order(self) -> tuple[Order, str]:
        """For the first run; and its job."""
        first = self.runs[0]
        order = self.intend(first.request, first)
        return order, self.submit(order, first.request)

    def executed(self) -> int:
        """How often a run was begun."""
        log = self.out / "executed.log"
        return sum(map(bool, log.read_text().splitlines())) if log.exists() else 0

    def done(self, run: ClusterRun) -> bool:
        return (self.out / "runs" / run.run / "trained.json").exists()


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return freeze_fake_code(tmp_path_factory.mktemp("code"))


@pytest.fixture
def submitter(tmp_path: Path, fake_slurm: FakeSlurm, code: Path) -> Submitter:
    out = tmp_path / "out"
    _, sweep = written_sweep(out, code, SWEEP, *ONE_PROCESS)
    (out / "steps").write_text(str(STEPS))
    return Submitter(out, sweep, Books(out), fake_slurm)


def wait_for(true: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def test_a_job_does_its_run(submitter: Submitter) -> None:
    """Without which the tests below would show nothing."""
    order, job = submitter.order()
    assert submitter.slurm.run(job) == 0, submitter.books.log(order.token, 0).read_text()
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
    assert "torch saw none" in submitter.books.log(order.token, 0).read_text()
    assert submitter.executed() == 0
    view = views_of(submitter.sweep, submitter.out, submitter.books, Slurm())[0][submitter.runs[0].run]
    assert (view.state, view.to_submit) == (ClusterState.LOST, True)
    assert "torch saw none" in view.reason


def test_a_job_notes_its_number_where_its_submitter_was_killed_before(submitter: Submitter) -> None:
    order, job = submitter.order()
    submitter.books.order_file(order.token).with_suffix(".id").unlink()
    assert submitter.slurm.run(job) == 0
    (order,) = submitter.books.orders()
    assert order.job_id == job


def test_a_job_whose_order_was_given_up_does_nothing(submitter: Submitter) -> None:
    order, job = submitter.order()
    submitter.books.note_void(order)
    assert submitter.slurm.run(job) == GIVEN_UP
    assert "this order was given up" in submitter.books.log(order.token, 0).read_text()
    assert submitter.executed() == 0
    assert list(submitter.books.attempts()) == []


def test_a_job_whose_run_was_cancelled_does_nothing(submitter: Submitter) -> None:
    order, job = submitter.order()
    submitter.books.cancel([submitter.runs[0].run])
    assert submitter.slurm.run(job) == GIVEN_UP
    assert "cancelled: nothing is done" in submitter.books.log(order.token, 0).read_text()
    assert submitter.executed() == 0
    assert list(submitter.books.attempts()) == []


def test_what_never_reached_the_scheduler_is_ordered_anew_and_comes_too_late(
    submitter: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its submitter was killed while sbatch was on its way, which comes there after the order was given up."""
    first = submitter.runs[0]
    late = submitter.intend(first.request, first)
    assert first.run not in _ordered(submitter)  # it may still come
    monkeypatch.setattr("hpc.cluster.sync._INTENT_AGE_S", 0.0)
    assert first.run in _ordered(submitter)
    job = submitter.submit(late, first.request)
    assert submitter.slurm.run(job) == GIVEN_UP
    assert submitter.executed() == 0
    (anew,) = [order for order in submitter.books.orders() if first.run in order.elements[0].runs and not order.void]
    assert submitter.slurm.run(anew.job_id_of(0) or "") == 0
    assert submitter.done(first)


def _ordered(submitter: Submitter) -> set[str]:
    """Runs for which the scheduler has a job after another pass."""
    synchronize(submitter.out, Slurm())
    orders = [order for order in submitter.books.orders() if order.job_id is not None]
    return {run for order in orders for element in order.elements for run in element.runs}


@pytest.mark.parametrize("cancelled", [False, True])
def test_told_to_stop_a_job_goes_back_to_the_queue_unless_its_run_was_cancelled(
    submitter: Submitter, cancelled: bool
) -> None:
    order, job = submitter.order()
    run = submitter.runs[0].run
    (submitter.out / "behavior.json").write_text(f'{{"{run}": "endless"}}')
    process = submitter.slurm.launch(job)
    try:
        wait_for(
            (submitter.out / "runs" / run / "checkpoints" / f"step-{STEPS:08}" / "state").exists,
            lambda: submitter.books.log(order.token, 0).read_text(),
        )
        if cancelled:
            submitter.books.cancel([run])
        Slurm().signal(job, "USR2")
        submitter.slurm.ended(job, process.wait(30))
    finally:
        process.kill()
        process.wait()
    assert submitter.slurm.job(job)["state"] == ("FAILED" if cancelled else "PENDING")
    assert submitter.slurm.calls("scontrol") == ([] if cancelled else [["scontrol", "requeue", job]])
    assert list((submitter.books.folder / "requeue").iterdir()) == []  # for the next time
    if not cancelled:
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
    submitter.books.write_attempt(
        Attempt(
            order.token, 0, 0, 0, started=1.0, time_up=2.0, nodes="n1", first_step=0, ended=1.5, exit_code=exit_code
        )
    )
    for _ in range(1 if again else 2):
        submitter.slurm.requeue(job)
        submitter.slurm.launch(job).wait(60)
    assert submitter.executed() == again
    assert submitter.done(submitter.runs[0]) == again
