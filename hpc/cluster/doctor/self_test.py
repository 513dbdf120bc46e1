"""Self-test of a site: a job on two nodes, its supervision, and findings from its results."""

import contextlib
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fgssl.errors import UserError
from fgssl.store.files import write_atomically
from hpc.cluster.doctor.diagnosis import Diagnosis, Verdict
from hpc.cluster.doctor.node_checks import Meeting, Task, read_tasks
from hpc.cluster.schedulers import build_scheduler
from hpc.cluster.schedulers.scheduler import JobFact, JobRequest, JobScript, Scheduler, SchedulerUnavailableError
from hpc.cluster.site.job_settings import JobSettings
from hpc.cluster.site.profile import Profile
from hpc.cluster.site.requests import request

_POLL_S = 2.0
_POLL_IN_QUEUE_S = 15.0
_IN_QUEUE_S = 3600.0
"""Longest wait for the job to start."""
_TO_RESTART_S = 240.0
"""Longest wait for a requeued job to start again, which takes at least two minutes in Slurm."""
_WORK_MIN = 10
_SLOW_FILES_S = 5.0
_LOG_LINES = 15


@dataclass(frozen=True)
class SelfTestResult:
    """Result of the doctor's job."""

    asked: JobRequest
    tasks: Sequence[Task]
    fact: JobFact | None
    """Scheduler's last report of the job, or None if it never reported one."""
    restarted: bool
    """Whether the job was requeued and started again."""
    refusal: str
    """Error of the scheduler if it did not requeue the job."""
    log: str


def self_test_request(profile: Profile) -> JobRequest:
    """Return a request for two processes on each of two nodes, or as many as the site allows.

    Raises `SettingsError` if the site would reject it.
    """
    gpu = profile.gpu
    processes = 2
    if gpu is not None and gpu.per_node is not None:
        allowed = gpu.counts or range(1, gpu.per_node + 1)
        processes = gpu.per_node if profile.several_nodes_whole else max(n for n in allowed if n <= max(2, allowed[0]))
    partition = profile.partition if gpu is not None else profile.cpu_partition or profile.partition
    shortest = profile.limit("shortest_walltime_min", partition)[0] or 0
    walltime_min = max(shortest, _WORK_MIN + profile.signal_delay_s // 60)
    job = JobSettings(nodes=2, processes_per_node=processes, walltime_min=walltime_min)
    return replace(request(job, profile, gpu is not None, "fgssl-doctor"), requeue=True)


def scratch_names(profile: Profile) -> tuple[str, ...]:
    """Return candidates for local scratch folders of a node."""
    stated = profile.storage.node_local
    return (stated,) if stated is not None else (*build_scheduler(profile.scheduler).scratch, "/tmp")


def watch(script: JobScript, folder: Path, scheduler: Scheduler) -> SelfTestResult:
    """Submit the job, send it USR2 once all processes have findings, and wait for its restart.

    The job is canceled if it has not ended by then, or on Ctrl-C.
    """
    asked, file = script.request, folder / "job.sh"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot create the folder: {error.strerror}; choose another --out") from error
    write_atomically(file, scheduler.script(script))
    job_id = scheduler.submit(file)
    fact, said, pause_s = None, "", _POLL_S
    began = signaled = requeued = False
    deadline = time.monotonic() + _IN_QUEUE_S
    try:
        while time.monotonic() < deadline and not (fact is not None and fact.over):
            time.sleep(pause_s)
            with contextlib.suppress(SchedulerUnavailableError):
                fact = scheduler.facts([job_id]).get(job_id, fact)
            if fact is not None and (now := f"{fact.state} {fact.reason}") != said:
                print(f"job {job_id}: {now.strip()}", flush=True)
                said = now
            runs = fact is not None and fact.started is not None
            pause_s = _POLL_S if runs else min(1.5 * pause_s, _POLL_IN_QUEUE_S)
            if runs and not began:
                began, deadline = True, time.monotonic() + 60 * _WORK_MIN
            if fact is not None and fact.restarts and not requeued:
                requeued, deadline = True, time.monotonic() + _TO_RESTART_S
            if not signaled and len(read_tasks(folder)) == asked.nodes * asked.tasks_per_node:
                with contextlib.suppress(UserError):  # the processes record that it did not arrive
                    scheduler.signal(job_id, "USR2")
                signaled = True
    finally:
        if fact is None or not fact.over:
            print(f"canceling job {job_id}", flush=True)
            scheduler.cancel([job_id])
    refusal, log = (
        file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        for file in (folder / "requeue.txt", folder / "log.txt")
    )
    restarted = (folder / "restarted.json").exists()
    return SelfTestResult(asked, read_tasks(folder), fact, restarted, refusal.strip(), log)


# ------------------------------------------------------------------------------------------- findings


def judge(diagnosis: Diagnosis, result: SelfTestResult) -> None:
    """Add findings to the diagnosis from the result, including checks that did not complete."""
    asked, tasks, fact = result.asked, result.tasks, result.fact
    expected = asked.nodes * asked.tasks_per_node
    if len(tasks) == expected:
        diagnosis.confirm("environment")
        message = (
            f"{expected} processes on {' and '.join(dict.fromkeys(task.node for task in tasks))} completed their checks"
        )
        diagnosis.add(Verdict.OK, "self-test", message)
    else:
        state = f"{fact.state} {fact.reason}".strip() if fact is not None else "unknown"
        end = "\n".join(result.log.splitlines()[-_LOG_LINES:])
        message = (
            f"{len(tasks)} of {expected} processes completed their checks; the job was {state}; end of its log:\n{end}"
        )
        diagnosis.add(Verdict.WARNING, "self-test", message)
    if tasks:
        _judge_python(diagnosis, tasks)
        _judge_cores(diagnosis, asked, tasks)
        _judge_memory(diagnosis, asked, tasks)
        _judge_gpus(diagnosis, asked, tasks)
        _judge_signal(diagnosis, tasks)
        _judge_scratch(diagnosis, tasks)
    for meeting in (task.meeting for task in tasks if task.meeting is not None):
        _judge_meeting(diagnosis, meeting)
    for reached in (task.internet for task in tasks if task.internet is not None):
        diagnosis.see("internet", "allowed" if reached else "forbidden")
    for said in (task.submission for task in tasks if task.submission is not None):
        _judge_submission(diagnosis, said)
    _judge_requeue(diagnosis, result)


def _judge_python(diagnosis: Diagnosis, tasks: Sequence[Task]) -> None:
    here, there = platform.python_version(), ", ".join(sorted({task.python for task in tasks}))
    same = here.rpartition(".")[0] == there.rpartition(".")[0]
    diagnosis.add(Verdict.OK if same else Verdict.WARNING, "python", f"{there} on the compute nodes, {here} here")


def _judge_cores(diagnosis: Diagnosis, asked: JobRequest, tasks: Sequence[Task]) -> None:
    wanted, numbers = asked.cpus_per_task, sorted({len(task.cores) for task in tasks})
    has = f"{wanted} cores were requested for each process, which may run on {' or '.join(map(str, numbers))}"
    shared = any(
        one.rank < other.rank and one.node == other.node and set(one.cores) & set(other.cores)
        for one in tasks
        for other in tasks
    )
    if numbers == [wanted] and not shared:
        diagnosis.confirm("cpu_bind")
        diagnosis.add(Verdict.OK, "CPU binding", has)
    elif numbers[0] < wanted:
        message = (
            f"{has}: if Slurm counts hardware threads, set options: {{hint: nomultithread}} in `jobs` to request cores"
        )
        diagnosis.add(Verdict.WARNING, "CPU binding", message)
    else:
        message = f"{has}{', shared with other processes' if shared else ''}: try cluster.cpu_bind=cores"
        diagnosis.add(Verdict.WARNING, "CPU binding", message)


def _judge_memory(diagnosis: Diagnosis, asked: JobRequest, tasks: Sequence[Task]) -> None:
    given = sorted({task.memory_mb for task in tasks if task.memory_mb is not None})
    wanted = "nothing" if asked.memory_mb is None else f"{asked.memory_mb} MB" if asked.memory_mb else "all of it"
    text = f"{' or '.join(f'{mb} MB' for mb in given) or 'unknown'} on a node"
    if asked.memory_mb and given != [asked.memory_mb]:
        diagnosis.add(Verdict.WARNING, "memory", f"{text}, but {wanted} were requested")
    else:
        diagnosis.add(Verdict.OK, "memory", f"{text}, {wanted} requested")


def _judge_gpus(diagnosis: Diagnosis, asked: JobRequest, tasks: Sequence[Task]) -> None:
    if not asked.gpus_per_node:
        return
    told = [f"process {task.rank}: {','.join(task.gpus or ()) or 'none'}" for task in tasks]
    fine = all(task.gpus is not None and len(task.gpus) in (1, asked.gpus_per_node) for task in tasks)
    message = f"{asked.gpus_per_node} on a node; {'; '.join(told)}"
    diagnosis.add(Verdict.OK if fine else Verdict.WARNING, "GPUs", message)
    for task in tasks:
        if task.torch_gpus and task.torch_gpus != str(len(task.gpus or ())):
            advice = "check that it is built for these GPUs, and that the node has their driver"
            diagnosis.add(Verdict.WARNING, "torch", f"device count on {task.node}: {task.torch_gpus}; {advice}")


def _judge_signal(diagnosis: Diagnosis, tasks: Sequence[Task]) -> None:
    deaf = [str(task.rank) for task in tasks if not task.signaled]
    if deaf:
        message = f"did not reach processes {', '.join(deaf)}: runs save only every resources.checkpoint_every_s"
        diagnosis.add(Verdict.WARNING, "USR2", message)
    else:
        diagnosis.add(Verdict.OK, "USR2", "the signal reached all processes")


def _judge_scratch(diagnosis: Diagnosis, tasks: Sequence[Task]) -> None:
    found = [task.scratch for task in tasks if task.scratch is not None]
    for scratch in found[:1]:
        text = f"{scratch.name} is {scratch.folder} ({scratch.kind}), {scratch.free_gb:g} GB free"
        diagnosis.add(Verdict.OK, "node-local scratch", text)
        diagnosis.see("storage.node_local", scratch.name)
        diagnosis.see("storage.node_local_in_memory", scratch.kind in ("tmpfs", "ramfs"))
    if not found:
        names = ", ".join(scratch_names(diagnosis.profile))
        diagnosis.add(
            Verdict.WARNING, "node-local scratch", f"no process can write to {names}: see the site's documentation"
        )


def _judge_meeting(diagnosis: Diagnosis, meeting: Meeting) -> None:
    if meeting.error:
        advice = "multi-node runs cannot start: check whether nodes have other names on their fast network"
        diagnosis.add(Verdict.WARNING, "network", f"{meeting.error}: {advice}")
        return
    path = f"the second node reached {meeting.host}, port {meeting.port}, by {meeting.interface}"
    wanted = diagnosis.profile.environment.variables.get("NCCL_SOCKET_IFNAME", "")
    if meeting.interface.startswith(wanted):
        diagnosis.add(Verdict.OK, "network", path)
    else:
        diagnosis.add(
            Verdict.WARNING, "network", f"{path}, but NCCL_SOCKET_IFNAME is {wanted}: check which one is fast"
        )
    after_s = meeting.visible_after_s
    if after_s is None or after_s > _SLOW_FILES_S:
        message = (
            f"a new file is visible on the other node after {after_s or 'more than 60'} s: choose another file system"
        )
        diagnosis.add(Verdict.WARNING, "files", message)
    else:
        diagnosis.add(Verdict.OK, "files", f"a new file is visible on the other node after {after_s:.2f} s")
    if meeting.locked_out:
        diagnosis.add(Verdict.OK, "file locks", "effective across nodes")
    else:
        what = "not available" if meeting.locked_out is None else "not effective across nodes"
        message = f"{what}: two jobs may execute the same run; put --out on a file system with flock across nodes"
        diagnosis.add(Verdict.WARNING, "file locks", message)


def _judge_submission(diagnosis: Diagnosis, said: str) -> None:
    if not said:
        diagnosis.see("submit_from_jobs", "allowed")
    elif "denied" in said:
        diagnosis.see("submit_from_jobs", "forbidden")
        diagnosis.add(Verdict.WARNING, "jobs from a job", f"{said}: sweeps have no keeper")
    else:
        diagnosis.add(Verdict.UNKNOWN, "submit_from_jobs", f"test submission from a job: {said}")


def _judge_requeue(diagnosis: Diagnosis, result: SelfTestResult) -> None:
    fact = result.fact
    if result.restarted:
        diagnosis.see("requeue", "allowed")
        diagnosis.add(Verdict.OK, "restart after requeue", "the job was requeued and started again")
    elif fact is not None and fact.restarts:
        diagnosis.see("requeue", "allowed")
        message = f"the job was requeued, but did not start again within {_TO_RESTART_S:.0f} s ({fact.reason})"
        diagnosis.add(Verdict.WARNING, "restart after requeue", message)
    elif "disabled" in result.refusal or "denied" in result.refusal:
        diagnosis.see("requeue", "forbidden")
        diagnosis.add(Verdict.WARNING, "restart after requeue", f"{result.refusal}: `sync` submits another job instead")
    else:
        message = f"not observed: {result.refusal or 'the job did not get that far'}"
        diagnosis.add(Verdict.UNKNOWN, "restart after requeue", message)
