"""Passes over a sweep with a fake Slurm, when something goes wrong."""

import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fgssl.errors import UserError
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import ClusterRun, ClusterSweep
from hpc.cluster.job_store import Element, JobStore, new_order
from hpc.cluster.observe import observe
from hpc.cluster.schedulers.scheduler import JobRequest, SchedulerUnavailableError
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.site.profile import LimitSettings
from hpc.cluster.status import ClusterState, RunStatus
from hpc.cluster.sync import Report, retry, synchronize
from hpc.sweeps.retries import Retries
from tests.hpc.fake_slurm.cluster import FakeSlurm
from tests.hpc.results import write_results

PLAIN = JobRequest("sweep", 60)


class Small:
    """Sweep of runs that have needs and requests but no settings."""

    def __init__(self, out: Path, **needs: tuple[str, ...]) -> None:
        self.out, self.needs = out, needs
        self.requests: dict[str, JobRequest] = {}
        self.keeper: JobRequest | None = None
        self.store = JobStore(out)
        self.store.make()

    @property
    def sweep(self) -> ClusterSweep:
        runs = [
            ClusterRun(
                run=name,
                label=name,
                needs=needs,
                results=("trained.json",),
                configs=(),
                request=self.requests.get(name, PLAIN),
            )
            for name, needs in self.needs.items()
        ]
        limits = {run.request.partition or "": LimitSettings() for run in runs}
        sweep = ClusterSweep(
            name="sweep",
            profile="generic",
            keeper=self.keeper,
            limits=limits,
            retries=Retries(),
            code="/code",
            folder="/",
            runs=tuple(runs),
        )
        cluster_sweep.write(sweep, self.out)
        return sweep

    def sync(self) -> Report:
        assert self.sweep  # written anew
        return synchronize(self.out)

    def views(self) -> Mapping[str, RunStatus]:
        return observe(self.sweep, self.out, self.store, Slurm()).runs

    def states(self) -> dict[str, ClusterState]:
        return {name: view.state for name, view in self.views().items()}

    def complete(self, *names: str) -> None:
        for name in names:
            write_results(self.out / "runs" / name, ["trained.json"])


@pytest.fixture
def twelve(tmp_path: Path, fake_slurm: FakeSlurm) -> Small:
    return Small(tmp_path / "out", **{f"run-{number:02}": () for number in range(12)})


@pytest.fixture
def chain(tmp_path: Path, fake_slurm: FakeSlurm) -> Small:
    return Small(tmp_path / "out", base=(), a=("base",), b=("base",))


def tasks(fake_slurm: FakeSlurm) -> Counter[str]:
    return Counter(job["state"] for job in fake_slurm.jobs().values())


@pytest.mark.parametrize(("limit", "value", "taken"), [("max_submitted", 10, 9), ("max_array_size", 5, 12)])
def test_an_array_that_is_too_much_for_the_site_is_cut(
    limit: str, value: int, taken: int, twelve: Small, fake_slurm: FakeSlurm
) -> None:
    """Though the profile knows no limit: 12 are refused, 6 and 3 taken; of at most 5 tasks, 3 at a time."""
    fake_slurm.configure(**{limit: value})
    report = twelve.sync()
    while report.progress.ordered and sum(tasks(fake_slurm).values()) < taken:
        report = twelve.sync()
    assert sum(tasks(fake_slurm).values()) >= taken
    assert not report.progress.refused
    assert {order.job_id is None for order in twelve.store.orders() if not order.abandoned} == {False}


def test_what_is_refused_stops_nothing_else(twelve: Small, fake_slurm: FakeSlurm) -> None:
    fake_slurm.configure(accounts=["mine"])
    mine = JobRequest("sweep", 60, account="mine")
    twelve.requests = {name: mine for name in list(twelve.needs)[6:]}
    report = twelve.sync()
    assert report.progress.ordered == 6
    (line,) = report.progress.refused
    assert line.startswith("run-00 and 5 more: ")
    assert "Invalid account" in line
    refused = [name for name, view in report.runs.items() if "refused: " in view.reason]
    assert refused == list(twelve.needs)[:6]
    fake_slurm.configure(accounts=None)
    views = twelve.sync().runs.values()
    assert {(view.state, view.reason) for view in views} == {(ClusterState.PENDING, "")}


def test_a_submitter_killed_before_its_job_had_a_number_makes_no_dependent_start(
    chain: Small, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.store.intend(new_order("sweep", PLAIN, [_element("base")]))
    report = chain.sync()
    assert report.progress.ordered == 0
    assert fake_slurm.jobs() == {}


def test_a_job_that_sbatch_took_too_late_does_nothing(chain: Small, fake_slurm: FakeSlurm) -> None:
    order = chain.store.intend(new_order("sweep", PLAIN, [_element("base")]))
    chain.store.abandon(order)
    assert chain.store.orders()[0].abandoned
    assert chain.sync().progress.ordered == 3
    generations = [one.generation(0) for one in chain.store.orders() if "base" in one.elements[0].runs]
    assert generations == sorted(set(generations))


def test_a_cancel_is_enforced_by_the_next_pass(chain: Small, fake_slurm: FakeSlurm) -> None:
    """Though scancel could not be given when a person asked for it."""
    chain.sync()
    fake_slurm.start("1", "n1")
    chain.store.cancel(["base"])
    for _ in range(2):  # the jobs that waited for it are in the second one's way
        chain.sync()
    assert chain.states() == {"base": "CANCELED", "a": "SKIPPED", "b": "SKIPPED"}
    assert set(tasks(fake_slurm)) == {"CANCELLED"}


def test_a_held_launch_is_released_a_few_times(chain: Small, fake_slurm: FakeSlurm) -> None:
    chain.sync()
    fake_slurm.start("1", "n1")
    fake_slurm.fail_launch("1")
    assert chain.states()["base"] is ClusterState.HELD
    report = chain.sync()
    assert any("released" in line for line in report.progress.lines)
    assert chain.states()["base"] is ClusterState.PENDING


def test_nodes_that_lost_several_runs_get_no_more(twelve: Small, fake_slurm: FakeSlurm) -> None:
    twelve.sync()
    for number in (0, 1):
        fake_slurm.start(f"1_{number}", "n7")
        fake_slurm.finish(f"1_{number}", "NODE_FAIL")
    assert twelve.sync().progress.ordered == 2
    assert [job["options"].get("exclude") for job in fake_slurm.jobs().values()].count("n7") == 2


def test_where_all_nodes_lost_runs_they_are_taken_all_the_same(twelve: Small, fake_slurm: FakeSlurm) -> None:
    twelve.sync()
    for number in range(8):
        fake_slurm.start(f"1_{number}", f"n{1 + number % 4}")
        fake_slurm.finish(f"1_{number}", "NODE_FAIL")
    report = twelve.sync()
    assert not report.progress.refused, report.progress.refused[0]
    assert not report.progress.refused
    assert any(line.startswith("cannot exclude n1 n2 n3 n4") for line in report.progress.lines)
    assert all(order.job_id is not None for order in twelve.store.orders())  # of what was refused nothing is left


def test_one_keeper_waits_while_there_is_something_to_wait_for(chain: Small, fake_slurm: FakeSlurm) -> None:
    chain.keeper = JobRequest("sweep-keeper", 30)
    chain.sync()
    chain.sync()
    (first,) = keepers(fake_slurm)
    base = chain.views()["base"].job_id or ""
    assert int(first["id"]) < int(base)  # it has a place in the queue, whatever the jobs take
    assert first["options"]["begin"] == "now+300"
    assert first["options"]["dependency"] == f"afterany:{base}?afterany:3_0?afterany:3_1"
    script = (chain.out / "cluster" / "keeper.sh").read_text()
    assert f"-m fgssl sync {chain.out} --until-answered" in script
    assert "srun" not in script
    assert 'scontrol requeue "$SLURM_JOB_ID"' in script

    fake_slurm.start(base, "n1")
    fake_slurm.finish(base, "NODE_FAIL")
    fake_slurm.advance(300)
    fake_slurm.start(first["id"], "n1")  # the pass that it makes leaves the next one
    assert chain.sync().progress.ordered >= 1
    (second,) = [job for job in keepers(fake_slurm) if job["state"] == "PENDING"]
    assert f"afterany:{chain.views()['base'].job_id}" in second["options"]["dependency"]

    chain.complete("base", "a", "b")
    before = len(fake_slurm.jobs())
    chain.sync()
    assert len(fake_slurm.jobs()) == before
    assert fake_slurm.job(second["id"])["state"] == "CANCELLED"  # nothing to wait for


def keepers(fake_slurm: FakeSlurm) -> list[dict[str, Any]]:
    return [job for job in fake_slurm.jobs().values() if job["name"] == "sweep-keeper"]


def test_a_keeper_has_a_place_though_the_queue_takes_few(twelve: Small, fake_slurm: FakeSlurm) -> None:
    """At every pass: also while one is at work, and though the profile knows no limit."""
    twelve.keeper = JobRequest("sweep-keeper", 30)
    fake_slurm.configure(max_submitted=6)
    for _ in range(8):
        report = twelve.sync()
        assert not report.progress.no_keeper, report.progress.lines
        waiting = [job for job in keepers(fake_slurm) if job["state"] == "PENDING"]
        assert len(waiting) == 1
        for job in keepers(fake_slurm):
            if job["state"] == "RUNNING":
                fake_slurm.finish(job["id"], "COMPLETED")
        for job in list(fake_slurm.jobs().values()):
            if job["name"] != "sweep-keeper" and job["state"] == "PENDING":
                fake_slurm.start(job["id"], "n1")
                fake_slurm.finish(job["id"], "COMPLETED")
                twelve.complete(twelve_run(twelve, job["id"]))
                break
        fake_slurm.advance(300)
        fake_slurm.start(waiting[0]["id"], "n1")


def twelve_run(small: Small, job_id: str) -> str:
    return next(
        element.runs[0]
        for order in small.store.orders()
        for number, element in enumerate(order.elements)
        if order.job_id_of(number) == job_id
    )


def test_a_keeper_is_not_left_where_all_is_refused(twelve: Small, fake_slurm: FakeSlurm) -> None:
    twelve.keeper = JobRequest("sweep-keeper", 30, account="mine")
    fake_slurm.configure(accounts=["mine"])
    report = twelve.sync()
    assert (report.progress.ordered, report.over, len(report.progress.refused)) == (0, True, 1)
    assert [job["state"] for job in fake_slurm.jobs().values()] == ["CANCELLED"]


def test_the_keeper_is_looked_for_where_one_is_wanted(chain: Small, fake_slurm: FakeSlurm) -> None:
    chain.keeper = JobRequest("sweep-keeper", 30)
    chain.complete("base", "a", "b")
    before = len(fake_slurm.calls("squeue"))
    chain.sync()
    assert len(fake_slurm.calls("squeue")) - before == 1  # to dismiss one


def test_a_run_that_left_the_sweep_is_not_retried(chain: Small) -> None:
    chain.sync()
    assert [status.run.run for status in retry(chain.out, ["gone", "base"])] == ["base"]


def test_a_keeper_waits_for_what_was_ordered_last(twelve: Small, fake_slurm: FakeSlurm) -> None:
    """Not for a long job alone that was there before."""
    twelve.keeper = JobRequest("sweep-keeper", 30)
    fake_slurm.configure(max_submitted=4)
    twelve.sync()
    (keeper,) = keepers(fake_slurm)
    first = {view.job_id for view in twelve.views().values() if view.state is ClusterState.PENDING}
    assert {f"afterany:{job}" for job in first} == set(keeper["options"]["dependency"].split("?"))
    done = sorted(job for job in first if job is not None)[0]
    fake_slurm.start(done, "n1")
    fake_slurm.finish(done)
    twelve.complete(twelve_run(twelve, done))
    twelve.sync()
    now = {view.job_id for view in twelve.views().values() if view.state is ClusterState.PENDING}
    assert now - first
    assert {f"afterany:{job}" for job in now} == set(fake_slurm.job(keeper["id"])["options"]["dependency"].split("?"))


def test_a_queue_that_takes_one_job_takes_a_run(twelve: Small, fake_slurm: FakeSlurm) -> None:
    twelve.keeper = JobRequest("sweep-keeper", 30)
    fake_slurm.configure(max_submitted=1)
    report = twelve.sync()
    assert report.progress.ordered == 1
    assert any(line.startswith("canceled the keeper") for line in report.progress.lines), report.progress.lines


def test_a_keeper_whose_number_was_never_noted_is_found(chain: Small, fake_slurm: FakeSlurm) -> None:
    chain.keeper = JobRequest("sweep-keeper", 30)
    chain.sync()
    (chain.out / "cluster" / "keeper.id").unlink()
    chain.sync()
    assert len(keepers(fake_slurm)) == 1
    assert chain.store.keeper() == keepers(fake_slurm)[0]["id"]


def test_what_the_database_will_decide_is_waited_for(chain: Small, fake_slurm: FakeSlurm) -> None:
    """A job that is over, the controller has forgotten how, and the database is away: nothing is over yet."""
    chain.keeper = JobRequest("sweep-keeper", 30)
    chain.sync()
    base = chain.views()["base"].job_id or ""
    fake_slurm.start(base, "n1")
    fake_slurm.finish(base, "NODE_FAIL")
    fake_slurm.configure(accounting="away")
    fake_slurm.advance(4000)
    report = chain.sync()
    assert report.runs["base"].undecided
    assert not report.over
    assert [job["state"] for job in keepers(fake_slurm)].count("PENDING") == 1
    fake_slurm.configure(accounting="up")
    assert chain.sync().progress.ordered >= 1


def test_a_need_that_could_not_be_ordered_keeps_what_needs_it_waiting(chain: Small, fake_slurm: FakeSlurm) -> None:
    """Its last job is over: to wait for that one would be to start at once."""
    chain.requests = {name: JobRequest("sweep", 60, partition="other") for name in ("a", "b")}
    chain.sync()
    base = chain.views()["base"].job_id or ""
    Slurm().cancel([view.job_id or "" for view in chain.views().values() if view.run.run != "base"])
    fake_slurm.start(base, "n1")
    fake_slurm.finish(base, "NODE_FAIL")
    fake_slurm.configure(max_submitted=0)
    chain.store.retry(["a", "b"])
    chain.sync()
    fake_slurm.configure(max_submitted=None)
    chain.sync()
    new = chain.views()["base"].job_id
    assert new != base
    dependents = [job for job in fake_slurm.jobs().values() if job["state"] == "PENDING" and job["id"] != new]
    assert {job["options"]["dependency"] for job in dependents} == {f"afterok:{new}"}


@pytest.mark.parametrize("trouble", ["held", "number of another"])
def test_a_keeper_that_will_not_come_is_replaced(trouble: str, chain: Small, fake_slurm: FakeSlurm) -> None:
    chain.keeper = JobRequest("sweep-keeper", 30)
    chain.sync()
    if trouble == "held":
        subprocess.run(["scontrol", "hold", chain.store.keeper() or ""], check=True)
    else:
        chain.store.note_keeper(chain.views()["base"].job_id or "")
    before = chain.store.keeper()
    chain.sync()
    assert chain.store.keeper() != before
    assert fake_slurm.jobs()[chain.store.keeper() or ""]["state"] == "PENDING"


def test_what_people_cancel_is_noted_before_the_scheduler_forgets_it(twelve: Small, fake_slurm: FakeSlurm) -> None:
    twelve.sync()
    Slurm().cancel(["1"])
    twelve.sync()
    (order,) = twelve.store.orders()
    assert order.canceled == set(range(12))
    fake_slurm.configure(accounting="none", boot_time=order.created + 10)
    fake_slurm.advance(4000)  # the controller has forgotten it, and may have been started anew
    assert twelve.states()["run-03"] is ClusterState.CANCELED


def test_an_order_that_was_not_answered_stays(twelve: Small, fake_slurm: FakeSlurm, monkeypatch) -> None:
    """The scheduler may have taken it: it is neither withdrawn nor given again."""

    def silent(*_: object) -> str:
        raise SchedulerUnavailableError("sbatch has not answered for 120 s")

    with monkeypatch.context() as context:
        context.setattr(Slurm, "submit", silent)
        report = twelve.sync()
    assert (report.silent, report.progress.ordered) == (True, 0)
    (order,) = twelve.store.orders()
    assert (order.job_id, order.abandoned, len(order.elements)) == (None, False, 12)
    assert twelve.sync().progress.ordered == 0
    assert set(twelve.states().values()) == {ClusterState.PENDING}


def test_a_number_that_could_not_be_noted_is_found(twelve: Small, fake_slurm: FakeSlurm, monkeypatch) -> None:
    """The disk is full for a moment after sbatch."""

    def full(*_: object) -> None:
        raise UserError("No space left on device")

    with monkeypatch.context() as context:
        context.setattr(JobStore, "note_id", full)
        with pytest.raises(UserError, match="No space left"):
            twelve.sync()
    report = twelve.sync()
    assert (report.progress.ordered, len(report.progress.lines)) == (0, 1)
    assert sum(tasks(fake_slurm).values()) == 12


def _element(run: str) -> Element:
    return Element((run,), (1,))
