"""Facts parsed from output that was recorded from Slurm 22.05 and shortened."""

import pytest

from hpc.cluster.schedulers.scheduler import JobFact, JobState, SchedulerUnavailableError
from hpc.cluster.schedulers.slurm import Slurm
from tests.hpc.cluster.conftest import Record
from tests.hpc.fake_slurm.cluster import states

# -------------------------------------------------------------------------------------------------------------- squeue

QUEUE = """\
1|COMPLETED|None|0|0|1795268426|1795268427|1:00:00|n1|fg-ok
2|FAILED|NonZeroExitCode|768|0|1795268426|1795268426|1:00:00|n1|fg-fail
3|FAILED|JobLaunchFailure|139|0|1795268426|1795268426|1:00:00|n1|fg-seg
6|PENDING|Dependency|0|0|N/A|N/A|1:00:00||fg-dep
8|PENDING|BeginTime|0|0|1795272026|1795275626|1:00:00||fg-begin
9|PENDING|DependencyNeverSatisfied|0|0|N/A|N/A|1:00:00||fg-depbad
7|PENDING|JobHeldUser|0|0|N/A|N/A|1:00:00||fg|pipe name
4|RUNNING|None|0|0|1795268426|1795272026|1:00:00|n[1-2]|fg-run
19|PENDING|JobHeldUser|0|0|N/A|N/A|1-02:04:00||two
lines
22|PENDING|JobHeldUser|0|0|N/A|N/A|UNLIMITED||wrap
41|TIMEOUT|TimeLimit|15|0|1795268735|1795268821|1:00|n1|fg-time
46|PENDING|job requeued in held state|0|1|1795268902|1795272502|1:00:00||fg-rh
47|SPECIAL_EXIT|job requeued in held state|0|1|1795268902|1795272502|1:00:00||fg-se
48|SUSPENDED|None|0|0|1795268888|1795272488|1:00:00|n1|fg-susp
67|FAILED|JobLaunchFailure|4021|0|1795269570|1795269570|1:00:00|n1|wrap
91|COMPLETING|None|0|1|1795271141|1795274741|1:00:00|n3|node
94_6|PENDING|JobArrayTaskLimit|0|0|N/A|N/A|1:00:00||arr
94_4|RUNNING|None|0|0|1795271105|1795274705|1:00:00|n1|arr
97|PENDING|launch failed requeued held|0|1|1795271159|1795274759|1:00:00||held
"""


def queue_fact(record: Record, job_id: str, queue: str = QUEUE) -> JobFact:
    record("squeue", queue)
    return Slurm().facts([job_id])[job_id]


def test_a_running_job(record: Record) -> None:
    fact = queue_fact(record, "4")
    assert fact == JobFact(
        job_id="4",
        name="fg-run",
        state=JobState.RUNNING,
        reason="",
        nodes=("n1", "n2"),
        started=1795268426.0,
        ended=None,  # squeue's is when the limit will be reached
    )


def test_a_waiting_job_has_no_times_though_squeue_expects_some(record: Record) -> None:
    fact = queue_fact(record, "8")
    assert (fact.state, fact.reason, fact.started, fact.ended) == ("PENDING", "BeginTime", None, None)


@pytest.mark.parametrize(
    ("job_id", "ending"),
    [
        ("1", ("COMPLETED", 0, 0, "")),
        ("2", ("FAILED", 3, 0, "NonZeroExitCode")),
        ("3", ("FAILED", 0, 11, "JobLaunchFailure")),
        ("41", ("TIMEOUT", 0, 15, "TimeLimit")),
        ("67", ("FAILED", 0, 53, "JobLaunchFailure")),  # its working directory did not exist
    ],
)
def test_how_a_job_ended(record: Record, job_id: str, ending: tuple[str, int, int, str]) -> None:
    fact = queue_fact(record, job_id)
    assert (fact.state, fact.exit_code, fact.signal, fact.reason) == ending
    assert fact.over
    assert fact.ended is not None


def test_names_may_hold_the_separator_and_line_breaks(record: Record) -> None:
    assert queue_fact(record, "7").name == "fg|pipe name"
    assert queue_fact(record, "19").name == "two"
    assert queue_fact(record, "22").name == "wrap"


@pytest.mark.parametrize(
    ("word", "start", "state"),
    [
        ("REQUEUED", "N/A", JobState.PENDING),
        ("CONFIGURING", "1795268426", JobState.RUNNING),
        ("POWER_UP_NODE", "1795268426", JobState.RUNNING),
        ("COMPLETING", "1795268426", JobState.RUNNING),
        ("SUSPENDED", "1795268426", JobState.RUNNING),
        ("BOOT_FAIL", "1795268426", JobState.NODE_FAILED),
        ("DEADLINE", "N/A", JobState.TIMEOUT),
        ("REVOKED", "N/A", JobState.CANCELED),
        ("RESV_DEL_HOLD", "N/A", JobState.HELD),
    ],
)
def test_every_word_is_a_state(word: str, start: str, state: JobState, record: Record) -> None:
    assert queue_fact(record, "4", f"4|{word}|None|0|0|{start}|N/A|1:00:00|n1|job\n").state is state


def test_a_dependency_that_never_comes_true(record: Record) -> None:
    assert [queue_fact(record, job).never_starts for job in ("6", "9")] == [False, True]


def test_tasks_of_an_array(record: Record) -> None:
    assert queue_fact(record, "94_4").state == "RUNNING"
    assert queue_fact(record, "94_6").reason == "JobArrayTaskLimit"


def test_what_is_held_and_what_only_waits(record: Record) -> None:
    record("squeue", QUEUE)
    facts = Slurm().facts([line.partition("|")[0] for line in QUEUE.splitlines()])
    held = {job_id for job_id, fact in facts.items() if fact.state is JobState.HELD}
    assert held == {"7", "19", "22", "46", "47", "97"}


def test_a_launch_that_failed_is_held_by_whatever_name(record: Record) -> None:
    assert queue_fact(record, "97").restarts == 1
    assert queue_fact(record, "97").launch_failed
    newer = QUEUE.replace("launch failed requeued held", "launch_failed_requeued_held")
    assert queue_fact(record, "97", newer) == queue_fact(record, "97")
    assert queue_fact(record, "97").reason == "launch failed requeued held"


def test_what_cleans_up_is_not_over(record: Record) -> None:
    assert not queue_fact(record, "91").over


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("", []),
        ("None assigned", []),
        ("login1", ["login1"]),
        ("n[1-2]", ["n1", "n2"]),
        ("nid[0009-0011,0100],g1", ["nid0009", "nid0010", "nid0011", "nid0100", "g1"]),
        ("r[1-2]c[3,5]-ib", ["r1c3-ib", "r1c5-ib", "r2c3-ib", "r2c5-ib"]),
    ],
)
def test_lists_of_nodes(record: Record, text: str, nodes: list[str]) -> None:
    line = f"4|RUNNING|None|0|0|1795268426|1795272026|1:00:00|{text}|fg-run\n"
    assert list(queue_fact(record, "4", line).nodes) == nodes


# --------------------------------------------------------------------------------------------------------------- sacct

DATABASE = """\
2|FAILED|None|3:0|2|1795268426|1795268426|60|n1|fg-fail
3|FAILED|None|0:11|3|1795268426|1795268426|60|n1|fg-seg
4|CANCELLED|None|0:15|4|1795268426|1795268608|60|n[1-2]|fg-run
7|CANCELLED|JobHeldUser|0:0|7|None|1795268608|60|None assigned|fg|pipe name
34|REQUEUED|None|0:0|34|1795268694|1795268696|60|n1|fg-requeue
35|PREEMPTED|None|0:0|35|1795268694|1795268696|60|n3|fg-preempt
36|PREEMPTED|None|0:15|36|1795268694|1795268696|60|n4|fg-norequeue
34|COMPLETED|BeginTime|0:0|34|1795268711|1795268726|60|n1|fg-requeue
35|COMPLETED|BeginTime|0:0|35|1795268711|1795268726|60|n3|fg-preempt
41|TIMEOUT|None|0:15|41|1795268735|1795268821|1|n1|fg-time
67|FAILED|None|0:53|67|1795269570|1795269570|60|n1|wrap
74_0|COMPLETED|None|0:0|75|1795269796|1795269799|60|n1|fg-x
74_1|CANCELLED|JobArrayTaskLimit|0:15|76|1795269800|1795269802|60|n1|fg-x
74_[2-5%1]|CANCELLED|JobArrayTaskLimit|0:0|74|None|1795269802|60|None assigned|fg-x
89_[2,9,22,26,29,31,64,96,104,120,137,214,221,224,227,234,236,238,261,272]\
|PENDING|JobHeldUser|0:0|89|Unknown|Unknown|60|None assigned|irregular
90_[0-1,4-5]|PENDING|JobHeldUser|0:0|90|Unknown|Unknown|60|None assigned|part
91|NODE_FAIL|None|0:0|91|1795271105|1795271136|60|n[2-3]|node
94_4|RUNNING|None|0:0|95|1795271105|Unknown|60|n1|arr
94_[6-9%2]|PENDING|JobArrayTaskLimit|0:0|94|Unknown|Unknown|60|None assigned|arr
"""


def test_what_the_controller_has_forgotten(record: Record) -> None:
    record("sacct", DATABASE)
    found = {
        job_id: (fact.state, fact.exit_code, fact.signal, fact.nodes)
        for job_id, fact in Slurm().facts(["2", "3", "4", "7", "36", "41", "67", "74_0", "74_1"]).items()
    }
    assert found == {
        "2": ("FAILED", 3, 0, ("n1",)),
        "3": ("FAILED", 0, 11, ("n1",)),
        "4": ("CANCELED", 0, 15, ("n1", "n2")),
        "7": ("CANCELED", 0, 0, ()),
        "36": ("PREEMPTED", 0, 15, ("n4",)),
        "41": ("TIMEOUT", 0, 15, ("n1",)),
        "67": ("FAILED", 0, 53, ("n1",)),
        "74_0": ("COMPLETED", 0, 0, ("n1",)),
        "74_1": ("CANCELED", 0, 15, ("n1",)),
    }


def test_who_canceled_it_is_no_part_of_the_state(record: Record) -> None:
    record("sacct", "90_[0-1,4-5]|CANCELLED by 0|JobHeldUser|0:0|90|None|1795271144|60|None assigned|part\n")
    assert states("90_0", "90_2", "90_4") == {"90_0": "CANCELED", "90_4": "CANCELED"}


def test_the_database_says_no_reason_of_what_is_over(record: Record) -> None:
    """It has the one for which the job waited."""
    record("sacct", DATABASE)
    assert {fact.reason for fact in Slurm().facts(["7", "34", "74_1"]).values()} == {""}


def test_the_last_start_counts_and_all_are_in_the_history(record: Record) -> None:
    record("sacct", DATABASE)
    fact = Slurm().facts(["34"])["34"]
    assert (fact.state, fact.restarts, fact.started, fact.ended) == ("COMPLETED", 1, 1795268711.0, 1795268726.0)
    starts = Slurm().history(["35"])["35"]
    assert [(start.state, start.nodes, start.restarts) for start in starts] == [
        ("PREEMPTED", ("n3",), 0),
        ("COMPLETED", ("n3",), 1),
    ]


def test_tasks_canceled_before_they_began_share_a_line(record: Record) -> None:
    record("sacct", DATABASE)
    facts = Slurm().facts([f"74_{task}" for task in range(8)])
    assert {job_id for job_id, fact in facts.items() if fact.started is None} == {"74_2", "74_3", "74_4", "74_5"}
    assert set(facts) == {f"74_{task}" for task in range(6)}


def test_a_task_s_own_line_counts_more_than_one_of_many(record: Record) -> None:
    """Not recorded; but the shared line is another record in the database, and may be the older one."""
    record("sacct", DATABASE.replace("74_[2-5%1]", "74_[0-5%1]"))
    assert states("74_0", "74_1", "74_2") == {"74_0": "COMPLETED", "74_1": "CANCELED", "74_2": "CANCELED"}
    assert Slurm().facts(["74_1"])["74_1"].nodes == ("n1",)


def test_lists_of_tasks_with_steps_and_of_any_length(record: Record) -> None:
    record("sacct", DATABASE + "25_[1-801:2%3]|CANCELLED by 0|JobHeldUser|0:0|25|None|1795268614|60|None assigned|fg\n")
    steps = Slurm().facts([f"25_{task}" for task in range(802)])
    assert set(steps) == {f"25_{task}" for task in range(1, 802, 2)}
    assert Slurm().history(["89_272"])["89_272"][0].state == "HELD"


def test_a_list_that_was_cut_short_tells_of_no_task(record: Record) -> None:
    """As sacct prints it unless it is told otherwise."""
    cut = "89_[2,9,22,26,29,31,64,96,104,120,137,214,221,224,227,234,236,23...]|PENDING|JobHeldUser|0:0|89|Unknown"
    record("sacct", f"{cut}|Unknown|60|None assigned|irregular\n")
    assert Slurm().history(["89_2", "89_23"]) == {}


def test_nobody_is_alive_by_the_word_of_the_database_alone(record: Record) -> None:
    """It is late with an end, and may never hear of tasks that were canceled before they began."""
    record("sacct", DATABASE)
    assert Slurm().facts(["90_4", "94_4", "94_6"]) == {}
    assert Slurm().history(["94_4"])["94_4"][0].state == "RUNNING"


def test_a_job_put_back_is_alive_though_the_database_says_that_it_ended(record: Record) -> None:
    """Recorded in the same second, after a node was lost."""
    record("squeue", QUEUE)
    record("sacct", DATABASE)
    assert Slurm().facts(["91"])["91"].state == "RUNNING"
    assert Slurm().history(["91"])["91"][-1].state == "NODE_FAILED"


def test_without_a_database_what_is_forgotten_is_left_out(record: Record) -> None:
    record("squeue", QUEUE)
    record("sacct", stderr="Slurm accounting storage is disabled\n", status=1)
    assert states("4", "36") == {"4": "RUNNING"}
    assert Slurm().history(["4"]) == {}
    assert Slurm().find("nobody") == []


DATABASE_AWAY = """\
sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to host:127.0.0.1:21819: \
Connection refused
sacct: error: Sending PersistInit msg: Connection refused
sacct: error: Problem talking to the database: Connection refused
"""


def test_while_the_database_is_away_what_is_forgotten_is_unknown(record: Record) -> None:
    record("squeue", QUEUE)
    record("sacct", stderr=DATABASE_AWAY, status=1)
    facts = Slurm().facts(["4", "36"])
    assert {job_id: fact.state for job_id, fact in facts.items()} == {"4": "RUNNING", "36": JobState.UNKNOWN}
    assert facts["36"].reason == "the accounting database does not answer"
    with pytest.raises(SchedulerUnavailableError, match=r"database does not answer: .*Connection refused"):
        Slurm().history(["36"])


def test_nobody_is_given_up_for_lost_while_the_database_is_away(record: Record) -> None:
    record("squeue", QUEUE)
    record("sacct", stderr=DATABASE_AWAY, status=1)
    assert Slurm().find("fg-run") == ["4"]
    with pytest.raises(SchedulerUnavailableError):
        Slurm().find("ended-long-ago")


def test_a_refused_submission_is_not_found(record: Record) -> None:
    """Slurm keeps a record of it: this is what squeue and sacct showed after sbatch had refused."""
    record("squeue", "54|FAILED|BadConstraints|1|0|1795269274|1795269274|1:00:00||wrap\n")
    assert Slurm().find("wrap") == []
    record("squeue")
    record("sacct", "54|FAILED|None|1:0|54|1795269274|1795269274|60|None assigned|wrap\n")
    assert Slurm().find("wrap") == []
