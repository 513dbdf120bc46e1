"""Run Slurm's commands in a clean environment, and raise their errors."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence

from fgssl.errors import UserError
from hpc.cluster.schedulers.scheduler import SchedulerUnavailableError
from hpc.cluster.schedulers.slurm.rejections import AWAY
from hpc.environment import is_of_launcher

_PATIENCE_S = 60.0
"""Time limit of a command; Slurm's own is about 10 s for a busy controller and 45 s for a hung database."""
_SUBMISSION_PATIENCE_S = 120.0
_STRIPPED = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SLURM_")
"""Prefixes of variables that change commands and their output, or belong to a job."""
_NOT_FOR_JOBS = ("SBATCH_", "SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")
"""Prefixes of variables that a submitted job must not inherit, beside those of launchers."""


def ask(*command: str) -> str:
    """Run a command and return its output, or raise its error; one of a plain query means that nothing answers."""
    answer = run(*command)
    if answer.returncode != 0:
        query = command[0] == "squeue" or command[:3] == ("scontrol", "show", "config")
        raise SchedulerUnavailableError(_words(answer)) if query else error_of(answer)
    return answer.stdout


def configuration() -> dict[str, str]:
    """Return the output of `scontrol show config` as {name: value}, e.g. MaxArraySize and KillWait."""
    lines = ask("scontrol", "show", "config").splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


def error_of(answer: "subprocess.CompletedProcess[str]") -> UserError:
    """Return the error to raise for a failed command."""
    return (SchedulerUnavailableError if re.search(AWAY, answer.stderr) else UserError)(_words(answer))


def _words(answer: "subprocess.CompletedProcess[str]") -> str:
    return f"{' '.join(answer.args[:2])}: {answer.stderr.strip() or f'exit status {answer.returncode}'}"


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command that queries or changes jobs, and return its result even if it failed."""
    # Print times since the epoch, and do not truncate lists of array tasks.
    plain = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0", "LC_ALL": "C"}
    return _execute(command, _environment(_STRIPPED) | plain, _PATIENCE_S)


def sbatch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run sbatch and return its result even if it failed."""
    # SBATCH_* would override the script, and a new job would mistake SLURM_* of another job for its own.
    kept = {name: value for name, value in _environment(_NOT_FOR_JOBS).items() if not is_of_launcher(name)}
    return _execute(("sbatch", *arguments), kept, _SUBMISSION_PATIENCE_S)


def _environment(stripped: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(stripped) or name == "SLURM_CONF"}


def _execute(
    command: Sequence[str], environment: Mapping[str, str], patience_s: float
) -> "subprocess.CompletedProcess[str]":
    """Run a command in its own process group, so that a timeout also kills what a wrapper started."""
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError:
        raise UserError(
            f"no {command[0]} on PATH: Slurm's commands are required, so run this on a login node. In a container, "
            "bind them into it or run this outside of it"
        ) from None
    with process:
        try:
            stdout, stderr = process.communicate(timeout=patience_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise SchedulerUnavailableError(f"{command[0]} has not answered for {patience_s:.0f} s") from None
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
