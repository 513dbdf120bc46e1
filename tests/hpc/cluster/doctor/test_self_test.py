"""Self-test of the doctor: its processes, without Slurm but with srun's variables, and the resulting findings."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.cluster.doctor.diagnosis import Diagnosis, Finding, Verdict
from hpc.cluster.doctor.node_checks import Meeting, Scratch, Task, read_tasks
from hpc.cluster.doctor.self_test import SelfTestResult, judge, self_test_request
from hpc.cluster.schedulers.scheduler import JobFact, JobRequest, JobState
from hpc.cluster.schedulers.slurm.script import gpu_flag
from hpc.cluster.site.profile_files import load_profile

ROOT = Path(__file__).parents[4]
GENERIC = ROOT / "slurm" / "generic.yaml"


# ------------------------------------------------------------------------------------- in the job


def start(folder: Path, rank: int, host: str = "localhost", **variables: str) -> "subprocess.Popen[str]":
    """Start process `rank` of two, each on its own node."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "CUDA"))}
    job = {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank), "SLURM_LOCALID": "0", "SLURM_MEM_PER_NODE": "4000"}
    environment = kept | {"PYTHONPATH": str(ROOT), "SLURMD_NODENAME": host} | job | variables
    arguments = [str(folder), "slurm", "$NOWHERE", str(folder)]
    command = [sys.executable, "-m", "hpc.cluster.doctor.node_checks", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def looked(folder: Path, *processes: "subprocess.Popen[str]") -> list[Task]:
    """Return the findings of all processes, and end them by the doctor's signal."""
    deadline = time.monotonic() + 60
    while len(read_tasks(folder)) < len(processes):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    for process in processes:
        process.send_signal(signal.SIGUSR2)
        assert process.wait(20) == 0
        assert process.stderr is not None
        process.stderr.close()
    return read_tasks(folder)


def test_two_nodes(tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "sbatch").write_text('#!/bin/sh\necho "sbatch: error: $*" >&2\nexit 1\n')
    (commands / "sbatch").chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    first, second = looked(tmp_path, start(tmp_path, 0, PATH=path), start(tmp_path, 1, PATH=path))
    assert (first.rank, second.rank) == (0, 1)
    assert first.signaled
    assert second.signaled
    assert 1 <= len(first.cores) <= len(os.sched_getaffinity(0))
    assert first.memory_mb == 4000
    assert first.gpus is None
    assert isinstance(first.internet, bool)
    assert second.internet is None
    assert (first.submission, second.submission) == (f"sbatch: error: --test-only {tmp_path}/job.sh", None)
    assert first.scratch is not None
    assert (first.scratch.name, first.scratch.folder) == (str(tmp_path), str(tmp_path))  # $NOWHERE is none
    assert first.meeting is None
    meeting = second.meeting
    assert meeting is not None
    assert (meeting.error, meeting.host, meeting.interface) == ("", "localhost", "lo 127.0.0.1")
    assert 20_000 <= meeting.port < 32_768
    assert meeting.visible_after_s is not None
    assert meeting.locked_out is True


def test_node_that_cannot_be_reached(tmp_path: Path) -> None:
    """The name that the first node goes by means nothing, or another machine, to the second one."""
    (tmp_path / "meeting.json").write_text(json.dumps({"host": "no-such-node.invalid", "port": 20_000}))
    [task] = looked(tmp_path, start(tmp_path, 1))
    assert task.meeting is not None
    assert task.meeting.error.startswith("no-such-node.invalid, port 20000: ")


def test_begun_anew(tmp_path: Path) -> None:
    process = start(tmp_path, 0, SLURM_RESTART_COUNT="1")
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == ["restarted.json"]


# --------------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    ("overrides", "processes", "gpus"),
    [
        (["cluster.gpu.per_node=8"], 2, "2"),
        (["cluster.gpu.per_node=1"], 1, "1"),
        (["cluster.gpu.per_node=4", "cluster.gpu.counts=[1, 4]"], 1, "1"),
        (["cluster.gpu.per_node=4", "cluster.gpu.counts=[1, 4]", "cluster.several_nodes_whole=true"], 4, "4"),
        (["cluster.gpu.per_node=4", "cluster.gpu.counts=[4]"], 4, "4"),
        (["cluster.gpu=null"], 2, None),
    ],
)
def test_smallest_job_that_tells(overrides: list[str], processes: int, gpus: str | None) -> None:
    request = self_test_request(load_profile(GENERIC, overrides))
    assert (request.nodes, request.tasks_per_node, gpu_flag(request)) == (2, processes, gpus)


def test_time_and_requeue() -> None:
    """Slurm's own signal must not come before the doctor's; whether jobs may go back is to be found out."""
    request = self_test_request(load_profile(GENERIC, ["cluster.requeue=forbidden", "cluster.signal_delay_s=600"]))
    assert request.requeue
    assert request.walltime_min == 20
    narval = load_profile(ROOT / "slurm" / "narval.yaml", ["cluster.account=def-someuser"])
    assert self_test_request(narval).walltime_min == 60  # no shorter ones there


# -------------------------------------------------------------------------------------- the verdict

ASKED = JobRequest("fgssl-doctor", 13, nodes=2, tasks_per_node=1, gpus_per_node=2, cpus_per_task=2, memory_mb=4096)
FINE = Meeting("n1", 20_000, "hsn0 10.0.0.2", visible_after_s=0.1, locked_out=True)
TASK = Task(
    rank=0,
    node="n1",
    python=".".join(map(str, sys.version_info[:3])),
    cores=("0", "1"),
    memory_mb=4096,
    gpus=("0", "1"),
    torch_gpus="2",
    internet=True,
    submission="",
    scratch=Scratch("/tmp", "/tmp", 100.0, "ext4"),
    signaled=True,
)
OTHER = replace(TASK, rank=1, node="n2", internet=None, submission=None, meeting=FINE)
ENDED = JobFact("7", "fgssl-doctor", JobState.COMPLETED, restarts=1)
OUTCOME = SelfTestResult(ASKED, (TASK, OTHER), ENDED, restarted=True, refusal="", log="")
Judged = Callable[..., dict[str, Finding]]


def judged(outcome: SelfTestResult, *overrides: str) -> dict[str, Finding]:
    diagnosis = Diagnosis(GENERIC, overrides)
    judge(diagnosis, outcome)
    return {finding.subject: finding for finding in diagnosis.findings}


def test_all_is_well() -> None:
    diagnosis = Diagnosis(GENERIC, ["cluster.cpu_bind=cores", "cluster.environment.modules=[python]"])
    judge(diagnosis, OUTCOME)
    assert {finding.verdict for finding in diagnosis.findings} == {Verdict.OK, Verdict.FOUND}
    subjects = {finding.subject for finding in diagnosis.findings if finding.verdict is Verdict.OK}
    assert subjects == {
        *("self-test", "python", "CPU binding", "memory", "GPUs", "USR2", "node-local scratch", "network", "files"),
        *("file locks", "restart after requeue"),
    }
    profile = diagnosis.filled()
    assert (profile.requeue, profile.internet, profile.storage.node_local) == ("allowed", "allowed", "/tmp")
    assert profile.submit_from_jobs == "allowed"


def test_what_worked_is_verified(tmp_path: Path) -> None:
    file = tmp_path / "here.yaml"
    file.write_text(
        "site: here\nunverified: [cpu_bind, environment.modules, several_nodes_whole]\ncpu_bind: cores\n"
        "environment: {modules: [python]}\nseveral_nodes_whole: true\n"
    )
    for outcome, left in (
        (OUTCOME, ("several_nodes_whole",)),
        (replace(OUTCOME, tasks=(TASK,)), ("environment.modules", "several_nodes_whole")),
        (replace(OUTCOME, tasks=(TASK, replace(OTHER, cores=("0",)))), ("cpu_bind", "several_nodes_whole")),
    ):
        diagnosis = Diagnosis(file)
        judge(diagnosis, outcome)
        (tmp_path / "filled.yaml").write_text(diagnosis.yaml())
        assert load_profile(tmp_path / "filled.yaml").unverified == left


@pytest.mark.parametrize(
    ("other", "subject", "words"),
    [
        (
            replace(OTHER, cores=("0",)),
            "CPU binding",
            "2 cores were requested for each process, which may run on 1 or 2",
        ),
        (replace(OTHER, cores=("0", "1", "2")), "CPU binding", "try cluster.cpu_bind=cores"),
        (replace(OTHER, node="n1"), "CPU binding", "shared with other processes"),
        (replace(OTHER, memory_mb=2048), "memory", "2048 MB or 4096 MB on a node, but 4096 MB were requested"),
        (replace(OTHER, gpus=(), torch_gpus=""), "GPUs", "process 1: none"),
        (replace(OTHER, gpus=None, torch_gpus=""), "GPUs", "process 1: none"),
        (replace(OTHER, torch_gpus="0"), "torch", "device count on n2: 0"),
        (replace(OTHER, signaled=False), "USR2", "did not reach processes 1:"),
        (replace(OTHER, python="3.9.1"), "python", "3.9.1 on the compute nodes"),
        (replace(OTHER, meeting=replace(FINE, visible_after_s=None)), "files", "after more than 60 s"),
        (replace(OTHER, meeting=replace(FINE, visible_after_s=30.0)), "files", "after 30.0 s"),
        (replace(OTHER, meeting=replace(FINE, locked_out=False)), "file locks", "not effective across nodes"),
        (replace(OTHER, meeting=replace(FINE, locked_out=None)), "file locks", "not available"),
        (replace(OTHER, meeting=Meeting("n1", 1, error="n1, port 1: refused")), "network", "n1, port 1: refused"),
    ],
)
def test_warnings(other: Task, subject: str, words: str) -> None:
    found = judged(replace(OUTCOME, tasks=(TASK, other)))
    assert found[subject].verdict is Verdict.WARNING
    assert words in found[subject].message
    warnings = {name for name, finding in found.items() if finding.verdict is Verdict.WARNING}
    assert warnings == {subject}


def test_interface_of_the_profile() -> None:
    name = "cluster.environment.variables.NCCL_SOCKET_IFNAME"
    assert judged(OUTCOME, f"{name}=hsn")["network"].verdict is Verdict.OK
    assert judged(OUTCOME, f"{name}=ib0")["network"].verdict is Verdict.WARNING


def test_scratch() -> None:
    in_memory = replace(TASK, scratch=Scratch("/tmp", "/tmp", 1.0, "tmpfs"))
    assert judged(replace(OUTCOME, tasks=(in_memory, OTHER)))["storage.node_local_in_memory"].message == "True"
    none = tuple(replace(task, scratch=None) for task in OUTCOME.tasks)
    assert judged(replace(OUTCOME, tasks=none))["node-local scratch"].verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("fact", "refusal", "verdict", "requeue"),
    [
        (replace(ENDED, state=JobState.PENDING, reason="launch failed requeued held"), "", Verdict.WARNING, "allowed"),
        (replace(ENDED, restarts=0), "Requested operation is presently disabled", Verdict.WARNING, "forbidden"),
        (replace(ENDED, restarts=0), "job.sh: line 9: scontrol: command not found", Verdict.UNKNOWN, "unknown"),
        (None, "", Verdict.UNKNOWN, "unknown"),
    ],
)
def test_requeue(fact: JobFact | None, refusal: str, verdict: Verdict, requeue: str) -> None:
    diagnosis = Diagnosis(GENERIC)
    judge(diagnosis, replace(OUTCOME, fact=fact, restarted=False, refusal=refusal))
    [finding] = [finding for finding in diagnosis.findings if finding.subject == "restart after requeue"]
    assert finding.verdict is verdict
    assert (fact.reason if fact is not None else "") in finding.message
    assert diagnosis.filled().requeue == requeue


@pytest.mark.parametrize(
    ("said", "verdict", "permission"),
    [
        ("allocation failure: Access/permission denied", Verdict.WARNING, "forbidden"),
        ("no sbatch on PATH: Slurm's commands are needed", Verdict.UNKNOWN, "unknown"),
    ],
)
def test_jobs_that_may_submit_none(said: str, verdict: Verdict, permission: str) -> None:
    diagnosis = Diagnosis(GENERIC)
    judge(diagnosis, replace(OUTCOME, tasks=(replace(TASK, submission=said), OTHER)))
    [finding] = [finding for finding in diagnosis.findings if said in finding.message]
    assert finding.verdict is verdict
    assert diagnosis.filled().submit_from_jobs == permission


def test_failed_job_shows_its_log() -> None:
    log = "\n".join([*map(str, range(100)), "ModuleNotFoundError: No module named 'pydantic'"])
    failed = replace(ENDED, state=JobState.FAILED, reason="NonZeroExitCode", restarts=0)
    found = judged(SelfTestResult(ASKED, (), failed, restarted=False, refusal="", log=log))
    assert found["self-test"].verdict is Verdict.WARNING
    assert "0 of 2 processes completed their checks; the job was FAILED NonZeroExitCode" in found["self-test"].message
    assert found["self-test"].message.endswith("98\n99\nModuleNotFoundError: No module named 'pydantic'")
    assert set(found) == {"self-test", "restart after requeue"}
