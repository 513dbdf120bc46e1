"""Batch scripts for Slurm: options, setup, the command under srun, and what puts the job back in the queue.

No job is a pickle, as submitit's are: those are renamed after sbatch, so one whose submitter is killed in between is
lost; their signal handlers requeue from within the step, whose end kills the request.
"""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from fgssl.errors import EXIT_INTERRUPTED, EXIT_OUT_OF_HANDS
from hpc.cluster.schedulers.scheduler import JobRequest, JobScript, Requeue


def script(job: JobScript) -> str:
    """Return the batch script of a job."""
    log = str(job.log).replace("{task}", "%a" if job.tasks > 1 else "0")
    python = job.request.python or shlex.quote(sys.executable)
    command = f"{python} {shlex.join(['-u', '-m', job.module, *job.arguments])}"
    if not job.alone:
        srun = ["srun", "--unbuffered", f"--output={log}", "--open-mode=append", *_flags(_srun_options(job.request))]
        command = f"{' '.join(srun)} {command}"
    options = [f"#SBATCH {flag}" for flag in sorted(_flags(_options(job, log)))]
    return "\n".join(["#!/bin/bash", *options, "", *_setup(job), command, *_teardown(job), ""])


def _flags(options: Mapping[str, str | int | float | bool | None]) -> list[str]:
    return [
        f"--{name}" if value is True else f"--{name}={shlex.quote(str(value))}"
        for name, value in options.items()
        if value is not None
    ]


def _options(job: JobScript, log: str) -> dict[str, str | int | float | bool | None]:
    """Return sbatch's options; None leaves one out. The user's SBATCH_* variables win over them: strip those."""
    request = job.request
    at_once = f"%{min(job.tasks, request.array_parallelism)}" if request.array_parallelism else ""
    return {
        "job-name": request.job_name,
        "time": request.walltime_min,
        "nodes": request.nodes,
        "ntasks-per-node": request.tasks_per_node,
        "cpus-per-task": request.cpus_per_task,
        request.gpu_option: gpu_flag(request),
        "mem": memory_flag(request),
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "exclude": ",".join(request.exclude) or None,
        "dependency": f"afterok:{':'.join(request.after)}" if request.after else None,
        "array": f"0-{job.tasks - 1}{at_once}" if job.tasks > 1 else None,
        "signal": f"USR2@{request.signal_delay_s}",
        "requeue" if request.requeue else "no-requeue": True,
        "output": log,
        "open-mode": "append",
        "chdir": request.folder,
        "begin": f"now+{request.begin_in_s}" if request.begin_in_s is not None else None,
        **{name.lstrip("-").replace("_", "-"): value for name, value in request.extra.items()},
    }


def gpu_flag(job: JobRequest) -> str | None:
    """Return the value of the option for GPUs, e.g. `a100:4`; None if there are none."""
    if not job.gpus_per_node:
        return None
    parts = ["gpu" if job.gpu_option == "gres" else None, job.gpu_type, str(job.gpus_per_node)]
    return ":".join(part for part in parts if part is not None)


def memory_flag(job: JobRequest) -> str | None:
    """Return the memory of a node with its unit, e.g. `124G`; `0` for all of it, None if nothing is asked for."""
    if not job.memory_mb:
        return None if job.memory_mb is None else "0"
    return f"{job.memory_mb}M" if job.memory_mb % 1024 else f"{job.memory_mb // 1024}G"


def _srun_options(job: JobRequest) -> dict[str, str | int | float | bool | None]:
    return {
        "cpus-per-task": job.cpus_per_task,  # from Slurm 22.05 on srun does not take it from sbatch
        # The processes of one run would wait for one that died; runs that share a job must not fall with another.
        "kill-on-bad-exit": 0 if job.runs > 1 else 1,
        "wait": 0,  # however long the first process still evaluates
        "cpu-bind": job.cpu_bind,
    }


def _setup(job: JobScript) -> list[str]:
    # Without its modules a job would take another Python; one that runs alone may not need them.
    or_leave = "" if job.alone else f" || exit {EXIT_OUT_OF_HANDS}"
    lines = [
        *(f"module load {module}{or_leave}" for module in job.request.modules),
        *job.request.setup,
        f"export PYTHONPATH={shlex.quote(str(job.code))}${{PYTHONPATH:+:$PYTHONPATH}}",
        "export PYTHONSAFEPATH=1",  # the working directory's code is not the submission's
    ]
    if job.alone:
        return lines
    return [
        *lines,
        "export SLURM_EXPORT_ENV=ALL",  # where sbatch was told not to, srun would not pass these on
        # Of an earlier time in the same job.
        *([f"rm -f {_requeue_file(job)}"] if job.requeue is Requeue.ON_REQUEST else []),
        'trap "" USR2',  # for a user's sbatch that signals this shell
    ]


def _teardown(job: JobScript) -> list[str]:
    """Return the lines after the command.

    TERM, as scancel sends it, ends the batch script before it comes here: a canceled job stays canceled.
    """
    file = _requeue_file(job)
    requeue = {
        Requeue.ON_REQUEST: [
            f"if [ -e {file} ]; then",
            f"    rm -f {file}",
            f"    status={EXIT_INTERRUPTED}",
            '    job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"',
            '    scontrol requeue "$job" || echo "not requeued: the next sync orders another job" >&2',
            "fi",
        ],
        Requeue.WHEN_INTERRUPTED: [f'if [ "$status" = {EXIT_INTERRUPTED} ]; then scontrol requeue "$SLURM_JOB_ID"; fi'],
        Requeue.ONCE: [
            'if [ "$status" = 0 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; '
            f'then scontrol requeue "$SLURM_JOB_ID" 2>{file}; fi'
        ],
    }
    return ["status=$?", *requeue[job.requeue], 'exit "$status"']


def _requeue_file(job: JobScript) -> str:
    before, task, after = str(job.requeue_file or Path()).partition("{task}")
    return shlex.quote(before) + ('"${SLURM_ARRAY_TASK_ID:-0}"' if task else "") + (shlex.quote(after) if after else "")
