"""Facts about jobs from their submission to their end, with a fake Slurm."""

import subprocess
import time

import pytest

from hpc.cluster.schedulers.scheduler import JobState, SchedulerUnavailableError
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.schedulers.slurm import commands as slurm_commands
from hpc.cluster.schedulers.slurm.rejections import refused
from tests.hpc.fake_slurm.cluster import FakeSlurm, requeue, sbatch, states


def test_a_job_from_sbatch_to_its_end(fake_slurm: FakeSlurm) -> None:
    job = sbatch()
    assert states(job) == {job: "PENDING"}
    fake_slurm.start(job, "n1", "n2")
    fact = Slurm().facts([job])[job]
    assert (fact.state, fact.nodes, fact.name) == ("RUNNING", ("n1", "n2"), "run")
    fake_slurm.finish(job, "FAILED", exit_code=3)
    assert Slurm().facts([job])[job].state == "FAILED"
    fake_slurm.forget(job)
    fact = Slurm().facts([job])[job]
    assert (fact.state, fact.exit_code) == ("FAILED", 3)


def test_the_end_of_a_job_is_known_while_the_database_is_late(fake_slurm: FakeSlurm) -> None:
    fake_slurm.configure(accounting_lag_s=30.0)
    job = sbatch()
    fake_slurm.start(job)
    fake_slurm.finish(job)
    assert states(job) == {job: "COMPLETED"}
    fake_slurm.forget(job)
    assert states(job) == {}
    fake_slurm.advance(31)
    assert states(job) == {job: "COMPLETED"}


def test_a_node_fails_and_slurm_runs_the_job_again(fake_slurm: FakeSlurm) -> None:
    job = sbatch()
    fake_slurm.start(job, "n2")
    fake_slurm.fail_node("n2")
    assert Slurm().history([job])[job][-1].state == "NODE_FAILED"
    fact = Slurm().facts([job])[job]
    assert (fact.state, fact.restarts, fact.over) == ("PENDING", 1, False)
    fake_slurm.start(job, "n3")
    assert states(job) == {job: "RUNNING"}
    fake_slurm.finish(job)
    fake_slurm.advance(10_000)
    starts = Slurm().history([job])[job]
    assert [(start.state, start.nodes) for start in starts] == [("NODE_FAILED", ("n2",)), ("COMPLETED", ("n3",))]
    assert Slurm().facts([job])[job].restarts == 1


def test_what_may_not_be_requeued_ends(fake_slurm: FakeSlurm) -> None:
    lost, preempted = sbatch("--no-requeue"), sbatch("--no-requeue")
    fake_slurm.start(lost, "n2")
    fake_slurm.start(preempted, "n1")
    fake_slurm.fail_node("n2")
    fake_slurm.preempt(preempted)
    assert states(lost, preempted) == {lost: "NODE_FAILED", preempted: "PREEMPTED"}
    again = sbatch("--no-requeue")
    fake_slurm.start(again)
    with pytest.raises(subprocess.CalledProcessError) as refused_by_slurm:
        requeue(again)
    assert "presently disabled" in refused_by_slurm.value.stderr


def test_requeue_release_and_signal(fake_slurm: FakeSlurm) -> None:
    job = sbatch()
    fake_slurm.start(job)
    Slurm().signal(job, "USR2")
    assert fake_slurm.job(job)["signals"] == ["USR2"]
    requeue(job)
    assert Slurm().facts([job])[job].restarts == 1
    fake_slurm.fail_launch(job)
    fact = Slurm().facts([job])[job]
    assert (fact.state is JobState.HELD, fact.reason, fact.restarts) == (True, "launch failed requeued held", 2)
    assert fake_slurm.startable() == []
    Slurm().release(job)
    assert Slurm().facts([job])[job].state is JobState.PENDING
    assert fake_slurm.startable() == [job]


def test_tasks_of_an_array_wait_for_reasons_of_their_own(fake_slurm: FakeSlurm) -> None:
    """squeue shows them as one job with one reason, unless it is told otherwise."""
    array = sbatch("--array=0-3")
    subprocess.run(["scontrol", "hold", f"{array}_2"], check=True)
    facts = Slurm().facts([f"{array}_{task}" for task in range(4)])
    assert [job_id for job_id, fact in facts.items() if fact.state is JobState.HELD] == [f"{array}_2"]


def test_canceled_tasks_that_vanish(fake_slurm: FakeSlurm) -> None:
    """Cancelled before they began, tasks leave no trace, or one as PENDING: who cancels must remember it."""
    array = sbatch("--array=0-5%1")
    fake_slurm.start(f"{array}_0")
    Slurm().cancel([f"{array}_2", f"{array}_3"])
    tasks = [f"{array}_{task}" for task in range(6)]
    assert states(*tasks) == {f"{array}_0": "RUNNING"} | {f"{array}_{task}": "PENDING" for task in (1, 4, 5)}
    assert {starts[0].state for starts in Slurm().history([f"{array}_2", f"{array}_3"]).values()} == {"PENDING"}
    Slurm().cancel([array])
    fake_slurm.advance(10_000)
    assert states(*tasks) == dict.fromkeys(tasks, "CANCELED")
    alone = sbatch("--array=0-1")
    fake_slurm.start(f"{alone}_0")
    Slurm().cancel([f"{alone}_1"])
    assert states(f"{alone}_0", f"{alone}_1") == {f"{alone}_0": "RUNNING"}


def test_canceling_what_is_over_is_no_error(fake_slurm: FakeSlurm) -> None:
    over, running, waiting = sbatch(), sbatch(), sbatch()
    fake_slurm.start(over)
    fake_slurm.finish(over)
    fake_slurm.start(running)
    Slurm().cancel([over, running, waiting, "99999"])
    assert states(over, running, waiting) == {over: "COMPLETED", running: "CANCELED", waiting: "CANCELED"}
    assert Slurm().facts([running])[running].signal == 15


def test_dependencies(fake_slurm: FakeSlurm) -> None:
    first, array = sbatch(), sbatch("--array=0-1")
    after = sbatch(f"--dependency=afterok:{first}:{array}_1")
    hopeless = sbatch(f"--dependency=afternotok:{first}")
    assert Slurm().facts([after])[after].reason == "Dependency"
    for job in (first, f"{array}_1"):
        fake_slurm.start(job)
        fake_slurm.finish(job)
    assert Slurm().facts([after])[after].reason == ""
    assert Slurm().facts([hopeless])[hopeless].reason == "DependencyNeverSatisfied"
    assert fake_slurm.startable() == [f"{array}_0", after]


def test_the_controller_is_away(fake_slurm: FakeSlurm) -> None:
    job = sbatch()
    fake_slurm.start(job)
    fake_slurm.configure(controller="away")
    slurm = Slurm()
    for act in (
        lambda: slurm.facts([job]),
        lambda: slurm.find("run"),
        lambda: slurm.cancel([job]),
        lambda: slurm.release(job),
        lambda: slurm.signal(job, "USR2"),
    ):
        with pytest.raises(SchedulerUnavailableError):
            act()
    assert slurm.history([job])[job][-1].state == "RUNNING"
    fake_slurm.configure(controller="up")
    assert states(job) == {job: "RUNNING"}


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_a_command_that_hangs_is_given_up(fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    job = sbatch()
    fake_slurm.start(job)
    fake_slurm.finish(job)
    fake_slurm.forget(job)
    fake_slurm.configure(hanging=[command])
    monkeypatch.setattr(slurm_commands, "_PATIENCE_S", 3.0)  # the other command must answer in it
    begun = time.monotonic()
    if command == "squeue":
        with pytest.raises(SchedulerUnavailableError, match="squeue has not answered for"):
            Slurm().facts([job])
    else:
        assert states(job) == {job: JobState.UNKNOWN}
    assert time.monotonic() - begun < 30


def test_the_user_s_variables_change_nothing(fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    array = sbatch("--array=0-500:5")
    fake_slurm.start(f"{array}_0")
    Slurm().cancel([array])
    fake_slurm.advance(10_000)
    job = sbatch()
    fake_slurm.start(job)
    names = {
        "SQUEUE_STATES": "PENDING",
        "SQUEUE_NAMES": "other",
        "SLURM_TIME_FORMAT": "%H:%M",
        "SLURM_BITSTR_LEN": "20",
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    fact = Slurm().facts([job])[job]
    assert fact.started is not None
    assert abs(fact.started - time.time() - 10_000) < 60
    assert len(states(*(f"{array}_{task}" for task in range(0, 501, 5)))) == 101


def test_jobs_are_found_by_their_name(fake_slurm: FakeSlurm) -> None:
    old, array = sbatch("--job-name=order-1"), sbatch("--job-name=order-2", "--array=0-3")
    sbatch("--job-name=order-23")
    assert Slurm().find("order-2") == [array]
    assert Slurm().find("order-3") == []
    fake_slurm.start(old)
    fake_slurm.finish(old)
    fake_slurm.forget(old)
    assert Slurm().find("order-1") == [old]
    again = sbatch("--job-name=order-2")
    assert Slurm().find("order-2") == [again, array]


def test_a_job_that_sbatch_denies_is_found(fake_slurm: FakeSlurm) -> None:
    fake_slurm.configure(controller="late")
    denied = subprocess.run(["sbatch", "--job-name=order", "--wrap", "true"], capture_output=True, text=True)
    assert isinstance(refused(denied.stderr), SchedulerUnavailableError)
    assert Slurm().find("order") == ["1"]


def test_five_hundred_jobs_are_one_question(fake_slurm: FakeSlurm) -> None:
    begun = time.monotonic()
    arrays = [sbatch("--array=0-249%100"), sbatch("--array=0-249%100")]
    tasks = [f"{array}_{task}" for array in arrays for task in range(250)]
    assert len(fake_slurm.start_all()) == 200
    assert list(states(*tasks).values()).count("RUNNING") == 200
    for array in arrays:
        Slurm().cancel([array])
    fake_slurm.advance(10_000)
    assert set(states(*tasks).values()) == {"CANCELED"}
    assert [call[0] for call in fake_slurm.calls()].count("squeue") == 2
    assert [call[0] for call in fake_slurm.calls()].count("sacct") == 1
    assert time.monotonic() - begun < 10


def test_thousands_of_ids_are_asked_for_in_parts(fake_slurm: FakeSlurm) -> None:
    sbatch()
    assert states(*(str(number) for number in range(2, 12_002))) == {}
    asked = [next(word for word in call if word.startswith("--jobs=")) for call in fake_slurm.calls("sacct")]
    assert sum(words.count(",") + 1 for words in asked) == 12_000
    assert len(asked) == 3
