"""Error messages of Slurm, recorded from Slurm 22.05."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.errors import UserError
from hpc.cluster.schedulers.scheduler import Refusal, RefusedError, SchedulerUnavailableError
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.schedulers.slurm import commands as slurm_commands
from hpc.cluster.schedulers.slurm.rejections import refused
from tests.hpc.cluster.conftest import Record


@pytest.mark.parametrize(
    "words",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
        "slurm_load_jobs error: Socket timed out on send/recv operation\n",
        "squeue: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n"
        "squeue: fatal: Could not establish a configuration source\n",
    ],
)
def test_a_controller_that_does_not_answer_says_nothing_of_any_job(record: Record, words: str) -> None:
    record("squeue", stderr=words, status=1)
    record("sacct", "2|FAILED|None|3:0|2|1795268426|1795268426|60|n1|fg-fail\n")
    with pytest.raises(SchedulerUnavailableError) as caught:
        Slurm().facts(["2"])
    assert words.strip() in str(caught.value)
    assert Slurm().history(["2"])["2"][-1].state == "FAILED"  # the database may still know


@pytest.mark.parametrize(
    ("command", "words", "act"),
    [
        (
            "scancel",
            "scancel: error: Kill job error on job id 51: Unable to contact slurm controller (connect failure)",
            lambda slurm: slurm.cancel(["51"]),
        ),
        ("scontrol", "Unexpected message received for job 51", lambda slurm: slurm.wait_for_any("51", ["50"])),
        ("scontrol", "Unable to contact slurm controller (connect failure)", lambda slurm: slurm.release("51")),
    ],
)
def test_an_absent_controller_does_nothing(
    record: Record, command: str, words: str, act: Callable[[Slurm], None]
) -> None:
    record(command, stderr=words, status=1)
    with pytest.raises(SchedulerUnavailableError, match=r"51|contact"):
        act(Slurm())


@pytest.mark.parametrize(
    ("command", "words", "act"),
    [
        (
            "scontrol",
            "Requested operation is presently disabled for job 50",
            lambda slurm: slurm.release("50"),
        ),
        ("scontrol", "Invalid job id specified for job 99999", lambda slurm: slurm.release("99999")),
        (
            "scancel",
            "scancel: error: Kill job error on job id 49_1: Job can not be altered now, try again later",
            lambda slurm: slurm.signal("49_1", "USR2"),
        ),
        (
            "scancel",
            "scancel: error: Kill job error on job id 83: Access/permission denied",
            lambda slurm: slurm.cancel(["83"]),
        ),
    ],
)
def test_what_slurm_refuses_is_said_in_its_words(
    record: Record, command: str, words: str, act: Callable[[Slurm], None]
) -> None:
    record(command, stderr=words, status=1)
    with pytest.raises(UserError) as caught:
        act(Slurm())
    assert not isinstance(caught.value, SchedulerUnavailableError)
    assert words in str(caught.value)


def test_what_was_asked_for_and_is_so_already_is_no_error(record: Record) -> None:
    record("scancel", stderr="scancel: error: Kill job error on job id 1: Invalid job id specified\n", status=1)
    Slurm().cancel(["1"])


def test_without_slurms_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no squeue on PATH: .*login node.*container"):
        Slurm().facts(["1"])
    with pytest.raises(UserError, match="no scontrol on PATH"):
        Slurm().release("1")
    with pytest.raises(UserError, match="no sbatch on PATH"):
        Slurm().submit(tmp_path / "job.sh")
    assert Slurm().facts([]) == {}


SUBMISSION_FAILED = "sbatch: error: Batch job submission failed: "
POLICY = SUBMISSION_FAILED + "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (f"{SUBMISSION_FAILED}Invalid job array specification\n", Refusal.ARRAY),
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", Refusal.FULL),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", Refusal.FULL),
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
            f"{SUBMISSION_FAILED}Resource temporarily unavailable\n",
            Refusal.FULL,
        ),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", Refusal.OTHER),
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
            f"{SUBMISSION_FAILED}Invalid account or account/partition combination specified\n",
            Refusal.ACCOUNT,
        ),
        (f"{SUBMISSION_FAILED}Unable to contact slurm controller (connect failure)\n", None),
        (f"{SUBMISSION_FAILED}Socket timed out on send/recv operation\n", None),
        (f"{SUBMISSION_FAILED}Requested node configuration is not available\n", Refusal.OTHER),
        (f"sbatch: error: invalid partition specified: nope\n{SUBMISSION_FAILED}Invalid partition name", Refusal.OTHER),
        (f"{SUBMISSION_FAILED}Invalid qos specification\n", Refusal.OTHER),
    ],
)
def test_why_sbatch_took_no_job(words: str, kind: Refusal | None) -> None:
    error = refused(words)
    assert words.strip() in str(error)
    # Only a refusal says for certain that there is no job.
    assert isinstance(error, SchedulerUnavailableError) == (kind is None)
    assert isinstance(error, RefusedError) == (kind is not None)
    if isinstance(error, RefusedError):
        assert error.kind is kind


def test_a_site_s_script_around_a_command_ends_with_it(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script's child holds the pipes that the answer would come through."""
    record("squeue")
    (tmp_path / "recorded" / "squeue").write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/child\nwait\n")
    monkeypatch.setattr(slurm_commands, "_PATIENCE_S", 0.5)
    begun = time.monotonic()
    with pytest.raises(SchedulerUnavailableError):
        Slurm().facts(["1"])
    assert time.monotonic() - begun < 40  # and not the child's 60 s
    child = Path("/proc", (tmp_path / "child").read_text().strip())
    deadline = time.monotonic() + 30
    while child.exists() and "State:\tZ" not in (child / "status").read_text():  # nobody may reap it
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.02)
