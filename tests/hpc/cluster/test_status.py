"""Status of runs, from their files, the job store and the scheduler's facts."""

import dataclasses
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fgssl.errors import EXIT_INTERRUPTED, EXIT_OUT_OF_HANDS, EXIT_PEER_LOST
from fgssl.store.files import record_json
from fgssl.store.records import Progress
from hpc.cluster.cluster_sweep import ClusterRun
from hpc.cluster.job_store import Element, Launch, Order, UserRequests
from hpc.cluster.observe import read_files
from hpc.cluster.schedulers.scheduler import JobFact, JobRequest, JobState
from hpc.cluster.status import ClusterState, RunStatus, statuses
from hpc.sweeps.retries import Retries
from tests.hpc.results import TRAINED_ONCE

LIMIT_MIN = 60
TIME_UP_S = 3330.0


@dataclass
class Case:
    """One run, its files and its jobs."""

    out: Path
    needs: tuple[str, ...] = ()
    orders: list[Order] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    facts: dict[str, JobFact] | None = field(default_factory=dict)
    requests: UserRequests = field(default_factory=UserRequests)
    up_since: float = 0.0
    retries: Retries = field(default_factory=lambda: Retries(timeouts=1, node_failures=0))

    def write(self, name: str, content: str = "{}", run: str = "run", at: float | None = None) -> None:
        file = self.out / "runs" / run / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        if at is not None:
            os.utime(file, (at, at))

    def order(self, job_id: str | None = "1", after: tuple[str, ...] = (), created: float | None = None) -> Order:
        number = len(self.orders) + 1
        order = Order(
            token=f"token-{number}",
            job_name=f"sweep-token-{number}",
            created=float(number) if created is None else created,
            processes=1,
            walltime_min=LIMIT_MIN,
            signal_delay_s=180,
            elements=(Element(("run",), (number,)),),
            after=after,
            job_id=job_id,
        )
        self.orders.append(order)
        return order

    def began(self, order: Order, at: float = 1000.0, first_step: int = 0, restart: int = 0, **how: Any) -> None:
        self.launches.append(
            Launch(order.token, 0, 0, restart, at, time_up=at + TIME_UP_S, nodes="n1", first_step=first_step, **how)
        )

    def fact(
        self,
        state: str,
        job_id: str = "1",
        reason: str = "",
        nodes: tuple[str, ...] = (),
        name: str = "",
    ) -> None:
        assert self.facts is not None
        started = None if state in ("PENDING", "HELD") else 1000.0
        self.facts[job_id] = JobFact(job_id, name, JobState(state), reason, nodes=nodes, started=started)

    def statuses(self) -> dict[str, RunStatus]:
        request = JobRequest("sweep", LIMIT_MIN)
        names = {"base": (), "run": self.needs}
        runs = [
            ClusterRun(run=name, label=name, needs=needs, results=("trained.json",), configs=(), request=request)
            for name, needs in names.items()
        ]
        files = read_files(runs, self.out, self.orders, silent=self.facts is None)
        known = runs, files, self.orders, self.launches, self.requests, self.facts, self.retries
        return statuses(*known, now=time.time(), up_since=self.up_since)

    def view(self) -> RunStatus:
        return self.statuses()["run"]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_what_nobody_ordered_is_to_be_ordered(case: Case) -> None:
    view = case.view()
    assert (view.state, view.to_submit, view.submission, view.job_id) == (ClusterState.WAITING, True, 0, None)


def test_a_number_that_a_scheduler_gave_twice_is_the_newer_jobs(case: Case) -> None:
    """It died without having saved the first one."""
    case.order()
    case.fact("RUNNING", name="sweep-token-1")
    assert case.view().state is ClusterState.RUNNING
    case.fact("RUNNING", name="another")
    assert case.view().state is ClusterState.LOST


@pytest.mark.parametrize(("up_since", "state"), [(0.0, "CANCELED"), (1060.0, "LOST"), (5000.0, "CANCELED")])
def test_a_task_that_left_without_a_word_was_canceled_unless_the_scheduler_died(
    up_since: float, state: str, case: Case
) -> None:
    """Within the time in which it had perhaps not saved what it had taken."""
    order = case.order(created=1000.0)
    case.orders[0] = dataclasses.replace(order, elements=(*order.elements, Element(("other",), (1,))))
    case.up_since = up_since
    assert case.view().state == state


def test_results_on_disk_have_the_first_word(case: Case) -> None:
    case.write("trained.json", record_json(TRAINED_ONCE))
    case.began(case.order())
    case.fact("NODE_FAILED")
    assert (case.view().state, case.view().to_submit) == (ClusterState.DONE, False)


@pytest.mark.parametrize(
    ("word", "reason", "state"),
    [
        ("PENDING", "Resources", "PENDING"),
        ("RUNNING", "", "RUNNING"),
        ("HELD", "launch failed requeued held", "HELD"),
        ("HELD", "JobHeldUser", "HELD"),
    ],
)
def test_a_job_that_is_there(word: str, reason: str, state: str, case: Case) -> None:
    case.began(case.order(), ended=1010.0, exit_code=EXIT_INTERRUPTED)  # of an earlier time in the same job
    case.fact(word, reason=reason, nodes=("n1", "n2"))
    view = case.view()
    assert (view.state, view.to_submit, view.job_id, view.nodes) == (ClusterState(state), False, "1", "n1,n2")
    assert view.reason == reason


@pytest.mark.parametrize(
    ("word", "state", "again"),
    [
        ("TIMEOUT", "TIMEOUT", True),
        ("PREEMPTED", "PREEMPTED", True),
        ("NODE_FAILED", "NODE_FAIL", False),  # the case has no retry of it
        ("OUT_OF_MEMORY", "OOM", False),
        ("CANCELED", "CANCELED", False),
    ],
)
def test_how_a_job_ended_by_the_schedulers_word(word: str, state: str, again: bool, case: Case) -> None:
    case.retries = Retries(timeouts=1, preemptions=1, node_failures=0, memory=0)
    case.began(case.order())
    case.write("failure.txt", "Traceback\nRuntimeError: the other process left", at=2000.0)
    case.fact(word)
    assert (case.view().state, case.view().to_submit) == (ClusterState(state), again)


def test_a_fault_of_its_own_is_not_tried_again(case: Case) -> None:
    case.began(case.order(), ended=1500.0, exit_code=1)
    case.write("failure.txt", "Traceback\nValueError: no such thing\n", at=1500.0)
    case.fact("FAILED")
    view = case.view()
    assert (view.state, view.to_submit, view.reason) == (ClusterState.FAILED, False, "ValueError: no such thing")


def test_an_old_failure_is_not_that_of_a_later_job(case: Case) -> None:
    case.write("failure.txt", "Traceback\nValueError: old", at=500.0)
    case.began(case.order(), at=1000.0)
    case.fact("FAILED")
    assert case.view().state is ClusterState.LOST


def test_a_lost_process_is_a_fault_of_the_node_unless_one_of_the_others_failed(case: Case) -> None:
    case.retries = Retries(node_failures=2)
    case.began(case.order(), ended=1500.0, exit_code=EXIT_PEER_LOST)
    case.write("failure.txt", "process 1 of 2 lost contact", at=1500.0)
    case.fact("FAILED")
    assert (case.view().state, case.view().to_submit) == (ClusterState.LOST, True)
    case.write("failure-rank-1.txt", "ValueError")
    assert (case.view().state, case.view().to_submit) == (ClusterState.FAILED, False)


def test_interrupted_with_a_checkpoint_goes_on(case: Case) -> None:
    case.began(case.order(), ended=1500.0, exit_code=EXIT_INTERRUPTED, signal=signal.SIGUSR2)
    case.fact("FAILED")
    assert (case.view().state, case.view().to_submit) == (ClusterState.PREEMPTED, True)


def test_interrupted_at_the_time_limit_is_paid_as_a_timeout(case: Case) -> None:
    case.began(case.order(), ended=1000.0 + TIME_UP_S + 1, exit_code=EXIT_INTERRUPTED, signal=signal.SIGUSR2)
    case.fact("FAILED")
    assert (case.view().state, case.view().to_submit) == (ClusterState.TIMEOUT, True)
    assert "retried 0 of 1 times after timeouts" in case.view().reason


@pytest.mark.parametrize("silence", ["", JobState.UNKNOWN])
def test_a_job_that_was_told_to_stop_stays_so_when_nobody_says_why(silence: str, case: Case) -> None:
    """It may have been scancel; had it been a preemption, the scheduler would say so, or have started it again."""
    case.began(case.order(), ended=1500.0, exit_code=EXIT_INTERRUPTED, signal=signal.SIGTERM)
    if silence:
        case.fact(silence)
    assert (case.view().state, case.view().to_submit) == (ClusterState.CANCELED, False)
    for word in ("PREEMPTED", "FAILED"):  # but not CANCELED
        case.fact(word)
        assert (case.view().state, case.view().to_submit) == (ClusterState.PREEMPTED, True)


def test_what_never_began_is_not_ordered_again_while_the_database_is_away(case: Case) -> None:
    case.order()
    case.fact(JobState.UNKNOWN, reason="the accounting database does not answer")
    assert (case.view().state, case.view().to_submit) == (ClusterState.LOST, False)
    assert "does not answer" in case.view().reason


def test_the_files_of_a_job_that_ended_well_may_take_a_while_to_be_seen(case: Case) -> None:
    case.retries = Retries(node_failures=2)
    case.began(case.order(), ended=time.time(), exit_code=0)
    case.facts = {"1": JobFact("1", "", JobState.COMPLETED, ended=time.time() - 10.0)}
    assert (case.view().state, case.view().to_submit) == (ClusterState.RUNNING, False)
    case.facts = {"1": JobFact("1", "", JobState.COMPLETED, ended=time.time() - 200.0)}
    assert (case.view().state, case.view().to_submit) == (ClusterState.LOST, True)


@pytest.mark.parametrize("exit_code", [EXIT_OUT_OF_HANDS])
def test_a_full_disk_and_a_lost_lease_are_no_faults_of_the_run(exit_code: int, case: Case) -> None:
    case.retries = Retries(node_failures=2)
    case.began(case.order(), ended=1500.0, exit_code=exit_code)
    case.write("failure.txt", "no space left", at=1500.0)
    case.fact("FAILED")
    assert (case.view().state, case.view().to_submit) == (ClusterState.LOST, True)


def test_what_a_job_said_before_it_began_is_told(case: Case) -> None:
    case.began(case.order(), ended=1001.0, exit_code=2, said="the environment contradicts itself")
    case.fact("FAILED")
    view = case.view()
    assert (view.state, view.to_submit, view.reason) == (
        ClusterState.FAILED,
        False,
        "the environment contradicts itself",
    )


@pytest.mark.parametrize("began", [True, False])
@pytest.mark.parametrize("silence", ["", JobState.UNKNOWN])
def test_a_canceled_job_that_a_pass_saw_stays_so(silence: str, began: bool, case: Case) -> None:
    """When the scheduler has forgotten it, and even if its process had no time for a word."""
    order = case.order()
    if began:
        case.began(order)
    if silence:
        case.fact(JobState.UNKNOWN)
    case.orders[0] = dataclasses.replace(order, canceled=frozenset({0}))
    assert (case.view().state, case.view().to_submit) == (ClusterState.CANCELED, False)


def test_losses_count_against_a_node_while_the_run_is_in_the_queue_again(case: Case) -> None:
    case.retries = Retries(node_failures=9)
    case.began(case.order("1"))
    case.fact("NODE_FAILED", "1")
    case.order("2")
    case.fact("PENDING", "2")
    assert (case.view().state, case.view().lost_on) == (ClusterState.PENDING, ("n1",))


def test_the_nodes_of_lost_jobs_are_kept(case: Case) -> None:
    case.retries = Retries(node_failures=9)
    for number, word in enumerate(["NODE_FAILED", "TIMEOUT", "FAILED"]):
        case.began(case.order(str(number)))
        case.fact(word, str(number))
    assert case.view().lost_on == ("n1", "n1")


def progress(updated: float) -> str:
    return record_json(Progress(step=1, total_steps=2, loss=1.0, images_per_s=1.0, updated=updated))


@pytest.mark.parametrize("known", [True, False])
def test_without_accounting_the_last_sign_of_life_tells_a_timeout(known: bool, case: Case) -> None:
    """Nothing of the job is known any more, or only that it is over."""
    case.began(case.order(), at=1000.0)
    if known:
        case.fact(JobState.UNKNOWN)
    case.write("progress.json", progress(updated=1000.0 + 60 * LIMIT_MIN - 20.0))
    assert (case.view().state, case.view().to_submit) == (ClusterState.TIMEOUT, not known)  # else the database knows
    case.write("progress.json", progress(updated=1000.0 + 60 * 10))
    assert case.view().state is ClusterState.LOST


def test_a_silent_scheduler_makes_nothing_twice(case: Case) -> None:
    case.facts = None
    case.began(case.order())
    view = case.view()
    assert (view.state, view.to_submit) == (ClusterState.PENDING, False)
    assert "does not answer" in view.reason


def test_an_order_without_a_number_is_waited_for(case: Case) -> None:
    case.order(job_id=None)
    assert (case.view().state, case.view().to_submit) == (ClusterState.PENDING, False)


def test_timeouts_that_bring_a_run_on_are_no_retries(case: Case) -> None:
    for number in range(5):
        case.began(case.order(str(number)), first_step=10 * number)
        case.fact("TIMEOUT", str(number))
    case.write("checkpoints/step-00000050/COMPLETE")
    assert case.view().to_submit
    case.began(case.order("5"), first_step=50)
    case.fact("TIMEOUT", "5")
    assert case.view().to_submit
    assert "retried 0 of 1 times after timeouts" in case.view().reason
    case.began(case.order("6"), first_step=50)
    case.fact("TIMEOUT", "6")
    assert not case.view().to_submit


def test_budgets_are_counted_apart(case: Case) -> None:
    case.retries = Retries(timeouts=1, preemptions=1, node_failures=1)
    for number, word in enumerate(["PREEMPTED", "NODE_FAILED", "PREEMPTED"]):
        case.began(case.order(str(number)))
        case.fact(word, str(number))
    assert (case.view().state, case.view().to_submit) == (ClusterState.PREEMPTED, False)
    case.began(case.order("3"))
    case.fact("TIMEOUT", "3")
    assert (case.view().state, case.view().to_submit, case.view().submission) == (ClusterState.TIMEOUT, True, 4)


def test_a_wish_to_retry_forgives_all_jobs_before_it(case: Case) -> None:
    case.began(case.order("1", created=100.0), ended=1500.0, exit_code=1)
    case.fact("FAILED")
    case.requests = UserRequests(retried={"run": 200.0})
    assert (case.view().state, case.view().to_submit) == (ClusterState.WAITING, True)
    case.began(case.order("2", created=300.0), ended=1600.0, exit_code=1)
    case.fact("FAILED", "2")
    assert (case.view().state, case.view().to_submit) == (ClusterState.FAILED, False)


def test_a_canceled_run_stays_canceled(case: Case) -> None:
    case.requests = UserRequests(canceled=frozenset({"run"}))
    case.began(case.order(), ended=1500.0, exit_code=EXIT_INTERRUPTED)
    case.fact("RUNNING")
    assert case.view().state is ClusterState.RUNNING  # still
    case.fact("CANCELED")
    assert (case.view().state, case.view().to_submit) == (ClusterState.CANCELED, False)
    case.facts = {}
    assert (case.view().state, case.view().to_submit) == (ClusterState.CANCELED, False)


def test_needs(case: Case) -> None:
    case.needs = ("base",)
    assert case.view().to_submit  # with its need, and after it
    case.write("trained.json", record_json(TRAINED_ONCE), run="base")
    assert (case.statuses()["base"].trained, case.view().to_submit) == (True, True)


def test_without_hope_for_a_need_a_run_is_skipped(case: Case) -> None:
    case.needs, case.requests = ("base",), UserRequests(canceled=frozenset({"base"}))
    view = case.view()
    assert (view.state, view.to_submit, view.reason) == (ClusterState.SKIPPED, False, "needs base")


def test_what_left_the_queue_because_of_a_job_before_it_is_ordered_anew(case: Case) -> None:
    """Some sites cancel jobs whose dependency can never be satisfied."""
    case.order("1", after=("77",))
    case.fact("CANCELED")
    case.fact("FAILED", "77")
    assert (case.view().state, case.view().to_submit) == (ClusterState.WAITING, True)
    for word in ("COMPLETED", "RUNNING", "PENDING", JobState.UNKNOWN):  # else a person has canceled it
        case.fact(word, "77")
        assert (case.view().state, case.view().to_submit) == (ClusterState.CANCELED, False)
