"""Status of runs whose jobs ended before their program began."""

import dataclasses
from pathlib import Path

import pytest

from fgssl.errors import EXIT_OUT_OF_HANDS
from hpc.cluster.schedulers.scheduler import JobFact, JobState
from hpc.cluster.status import ClusterState
from hpc.sweeps.retries import Retries
from tests.hpc.cluster.test_status import Case


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_job_that_never_began_is_tried_once_more_and_blames_no_node(case: Case) -> None:
    """Its log cannot be opened, for example: Slurm reports the signal 53, or the exit code 1."""
    case.retries = Retries(node_failures=9)
    for number, (to_submit, state) in enumerate([(True, "LOST"), (False, "FAILED")]):
        case.order(str(number))
        case.fact("FAILED", str(number), nodes=("n1",))
        assert (case.view().state, case.view().to_submit, case.view().lost_on) == (ClusterState(state), to_submit, ())
    case.facts = {"1": JobFact("1", "", JobState.FAILED, nodes=("n1",))}
    assert case.view().state is ClusterState.FAILED  # without a database, the scheduler forgets the first one


@pytest.mark.parametrize(("exit_code", "start"), [(1, ""), (EXIT_OUT_OF_HANDS, None)])
def test_a_job_that_the_launcher_or_a_full_disk_ended_is_retried(exit_code: int, start: str | None, case: Case) -> None:
    case.retries = Retries(node_failures=2)
    for number in range(3):
        order = case.order(str(number))
        case.orders[-1] = dataclasses.replace(order, starts={} if start is None else {0: start})
        assert case.facts is not None
        case.facts[str(number)] = JobFact(str(number), "", JobState.FAILED, exit_code=exit_code, nodes=("n1",))
        assert (case.view().state, case.view().to_submit) == (ClusterState.LOST, number < 2)
    assert case.view().lost_on == ()


def test_a_job_that_reached_its_program_was_not_canceled_in_the_queue(case: Case) -> None:
    """Without a database, the scheduler forgets it."""
    case.retries = Retries(node_failures=1)
    order = case.order()
    assert case.view().state is ClusterState.CANCELED
    case.orders[-1] = dataclasses.replace(order, starts={0: ""})
    assert (case.view().state, case.view().to_submit, case.view().lost_on) == (ClusterState.LOST, True, ())


def test_a_node_that_failed_before_a_job_began_is_blamed(case: Case) -> None:
    case.retries = Retries(node_failures=9)
    case.order()
    case.fact("NODE_FAILED", nodes=("n1",))
    assert (case.view().state, case.view().lost_on) == (ClusterState.NODE_FAIL, ("n1",))
