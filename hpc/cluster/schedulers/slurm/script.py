"""Batch scripts for Slurm, written by submitit, with a command line instead of submitit's pickled job.

submitit renames its pickle after sbatch, so a job would be lost if its submitter were killed in between. Its signal
handlers requeue from within the step, but the end of the step kills that request.
"""

import shlex
import sys
from pathlib import Path

from submitit.slurm.slurm import SlurmExecutor

from fgssl.errors import EXIT_INTERRUPTED, EXIT_OUT_OF_HANDS
from hpc.cluster.schedulers.scheduler import JobRequest, JobScript, Requeue


class _Writer(SlurmExecutor):
    """submitit's executor, which also works without srun, so that a script can be printed anywhere."""

    @classmethod
    def affinity(cls) -> int:
        return 2


def script(job: JobScript) -> str:
    """Return the batch script of a job."""
    request = job.request
    # Slurm replaces patterns such as %j in the whole path, but %% stands for a percent sign.
    task = "%a" if job.tasks > 1 else "0"
    log = f"{job.log.parent}/".replace("%", "%%") + job.log.name.replace("{task}", task)
    python = request.python or shlex.quote(sys.executable)
    command = f"{python} {shlex.join(['-u', '-m', job.module, *job.arguments])}"
    if job.start_file is not None:
        command += ' "$_fgssl_start_file"'
    if not job.alone:  # submitit's own srun command would set another --output
        srun = ["srun", "--unbuffered", f"--output={log}", "--open-mode=append", *_srun_options(request)]
        command = f"{shlex.join(srun)} {command}"
    writer = _Writer(job.log.parent)
    writer.update_parameters(
        **{name: value for name, value in _options(request).items() if value is not None},
        additional_parameters={"output": log, **_further_options(request)},
        wckey=None,  # some sites reject submitit's
        setup=_setup(job),
        teardown=_teardown(job),
        stderr_to_stdout=True,
        use_srun=False,
    )
    if job.tasks > 1:
        writer.parameters["map_count"] = job.tasks
    return writer._make_submission_file_text(command, request.job_name)


def _options(request: JobRequest) -> dict[str, str | int | None]:
    """Return sbatch's options by submitit's names; None omits an option.

    SBATCH_* variables would override them, so `commands.sbatch` removes those.
    """
    return {
        "job_name": request.job_name,
        "time": request.walltime_min,
        "nodes": request.nodes,
        "ntasks_per_node": request.tasks_per_node,
        "cpus_per_task": request.cpus_per_task,
        request.gpu_option.replace("-", "_"): gpu_flag(request),
        "mem": memory_flag(request),
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "exclude": ",".join(request.exclude) or None,
        "dependency": f"afterok:{':'.join(request.after)}" if request.after else None,
        "array_parallelism": request.array_parallelism,
        "signal_delay_s": request.signal_delay_s,
    }


def _further_options(request: JobRequest) -> dict[str, str | int | float | bool]:
    """Return the options for which submitit has no parameter."""
    return {
        "requeue" if request.requeue else "no-requeue": True,
        "open-mode": "append",
        **({} if request.folder is None else {"chdir": request.folder}),
        **{name.lstrip("-"): value for name, value in request.extra.items()},
        **({} if request.begin_in_s is None else {"begin": f"now+{request.begin_in_s}"}),
    }


def gpu_flag(job: JobRequest) -> str | None:
    """Return the value of the GPU option, e.g. `a100:4`, or None for a job without GPUs."""
    if not job.gpus_per_node:
        return None
    parts = ["gpu" if job.gpu_option == "gres" else None, job.gpu_type, str(job.gpus_per_node)]
    return ":".join(part for part in parts if part is not None)


def memory_flag(job: JobRequest) -> str | None:
    """Return the value of --mem, e.g. `124G` or `0` for all memory of a node, or None for a job that requests none."""
    if not job.memory_mb:
        return None if job.memory_mb is None else "0"
    return f"{job.memory_mb}M" if job.memory_mb % 1024 else f"{job.memory_mb // 1024}G"


def _srun_options(job: JobRequest) -> list[str]:
    options = {
        "cpus-per-task": job.cpus_per_task,  # srun does not inherit it from sbatch since Slurm 22.05
        # Processes of one run would wait forever for one that died, but runs that share a job are independent.
        "kill-on-bad-exit": 0 if job.runs > 1 else 1,
        "wait": 0,  # no limit, since the first process may still be evaluating
        "cpu-bind": job.cpu_bind,
    }
    return [f"--{key}={value}" for key, value in options.items() if value is not None]


def _setup(job: JobScript) -> list[str]:
    environment = [*(f"module load {module}" for module in job.request.modules), *job.request.setup]
    code = shlex.quote(str(job.code))
    gone = f"{job.code}: no such folder, so the frozen code is gone: submit the sweep again, which freezes it anew"
    exports = [
        f"[ -d {code} ] || _fgssl_stop {shlex.quote(gone)}",  # otherwise an installed version would run
        f"export PYTHONPATH={code}${{PYTHONPATH:+:$PYTHONPATH}}",
        "export PYTHONSAFEPATH=1",  # the working directory may hold another version of the code
    ]
    if job.alone:  # the keeper may not need all of its environment
        return [*environment, "_fgssl_start_file=/dev/null", *_STOP, *exports]
    return [
        # Delete what an earlier start of the same job wrote.
        *([f"rm -f {_task_file(job.requeue_file)}"] if job.requeue is Requeue.ON_REQUEST else []),
        f"_fgssl_start_file={_task_file(job.start_file) if job.start_file else '/dev/null'}",
        *(['rm -f "$_fgssl_start_file"'] if job.start_file else []),
        *_STOP,
        _STOP_ON_ERROR,
        *([f"cd {shlex.quote(job.request.folder)}"] if job.request.folder is not None else []),
        *environment,
        "trap - ERR; set +e",  # the lines below handle the exit code of the program
        *exports,
        "export SLURM_EXPORT_ENV=ALL",  # otherwise srun would not export them after `sbatch --export=NONE`
        'trap "" USR2',  # in case a user submits the script with --signal=B:USR2@...
        ': >"$_fgssl_start_file"',
    ]


_STOP = (
    "_fgssl_stop() {",
    "    trap - ERR",
    '    echo "$HOSTNAME: $1" | tee "$_fgssl_start_file" >&2',
    f"    exit {EXIT_OUT_OF_HANDS}",
    "}",
)
"""Shell function that ends the job with a message; a prefix keeps its names apart from those of the environment."""
_STOP_ON_ERROR = (
    "trap 'code=$?; [ ${#BASH_SOURCE[@]} -gt 1 ] "
    """|| _fgssl_stop "exit code $code from a line of the job environment: $BASH_COMMAND"' ERR"""
)
"""Shell line after which a failing line ends the job, since another environment would train with other versions.

It has the rules of `set -e`, but a failure inside a sourced file counts only if `source` itself fails.
"""


def _teardown(job: JobScript) -> list[str]:
    """Return the shell lines after the command.

    scancel sends TERM, which ends the batch script before these lines: a canceled job is never requeued.
    """
    file = _task_file(job.requeue_file)
    requeue = {
        Requeue.ON_REQUEST: [
            f"if [ -e {file} ]; then",
            f"    rm -f {file}",
            f"    status={EXIT_INTERRUPTED}",
            '    job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"',
            '    scontrol requeue "$job" || echo "requeue failed: the next sync submits another job" >&2',
            "fi",
        ],
        Requeue.WHEN_INTERRUPTED: [f'if [ "$status" = {EXIT_INTERRUPTED} ]; then scontrol requeue "$SLURM_JOB_ID"; fi'],
        Requeue.ONCE: [
            'if [ "$status" = 0 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; '
            f'then scontrol requeue "$SLURM_JOB_ID" 2>{file}; fi'
        ],
    }
    return ["status=$?", *requeue[job.requeue], 'exit "$status"']


def _task_file(file: Path | None) -> str:
    """Return a path as a word of the shell, with the index of the array task for `{task}` in its name."""
    before, task, after = (file or Path()).name.partition("{task}")
    start = shlex.quote(str((file or Path()).parent / before))
    return start + ('"${SLURM_ARRAY_TASK_ID:-0}"' if task else "") + (shlex.quote(after) if after else "")
