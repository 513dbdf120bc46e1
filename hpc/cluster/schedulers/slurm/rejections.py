"""Parse sbatch rejections: their kind, the likely cause, and what to do."""

import re
from pathlib import Path

from fgssl.errors import UserError
from hpc.cluster.schedulers.scheduler import Refusal, RefusedError, SchedulerUnavailableError

AWAY = (
    r"Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted|Transport endpoint|"
    r"Connection (timed out|refused)|Unexpected message received"
)
"""Message of any of Slurm's commands if the controller does not answer."""
_REFUSALS = {
    Refusal.ARRAY: r"Invalid job array specification",
    # The last one is MaxJobCount. A policy of another name is a limit of size or time, and waiting does not help.
    Refusal.FULL: r"(QOS|Assoc)\w*Submit\w*Limit|Resource temporarily unavailable",
    Refusal.ACCOUNT: r"Invalid account",
}
_NOT_ASKED = ("job-name", "open-mode", "output", "requeue", "no-requeue", "signal", "array", "chdir")
"""Options that no site refuses, or that have an error of their own."""
_CAUSES = {
    r"accounting/QOS policy|(QOS|Assoc)(Max|Grp)": (
        "a limit of your account or QOS on size or time: fewer jobs.default.nodes or walltime_min, or another account"
    ),
    r"Invalid account": "account: give one of yours, cluster.account=NAME (`sacctmgr show associations user=$USER`)",
    r"(?i)invalid partition|partition .*not available": "partition: jobs.default.partition=NAME (listed by `sinfo -s`)",
    r"(?i)invalid qos": "QOS: jobs.default.qos=NAME (`sacctmgr show associations user=$USER` lists yours)",
    r"(?i)time limit": "walltime: a smaller jobs.default.walltime_min (`sinfo -o '%P %l'` lists the limits)",
    r"(?i)node configuration|node count|generic resource|\bgres\b|memory|CPU count": (
        "size: no node of the partition has so much; fewer jobs.default.processes_per_node, cores_per_process or "
        "memory_gb_per_node, or another gpu.type of the profile (`sinfo -o '%P %c %m %G'` lists what nodes have)"
    ),
    r"(?i)feature|reservation": "jobs.default.options: its constraint or reservation is not known there",
}
"""Message of sbatch to its cause and what to do."""


def refused(stderr: str) -> RefusedError | SchedulerUnavailableError:
    """Return the error to raise where sbatch failed; only a `RefusedError` means that there is no job."""
    if re.search(AWAY, stderr):
        return SchedulerUnavailableError(stderr.strip())
    kind = next((kind for kind, words in _REFUSALS.items() if re.search(words, stderr)), Refusal.OTHER)
    return RefusedError(kind, stderr.strip())


def explained(error: UserError, script: Path) -> UserError:
    """Add the batch script's options and the likely cause, except where waiting or a smaller array helps."""
    if not isinstance(error, RefusedError) or error.kind in (Refusal.FULL, Refusal.ARRAY):
        return error
    asked = [
        line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH --")
    ]
    shown = " ".join(f"--{option}" for option in asked if option.partition("=")[0] not in _NOT_ASKED)
    words = str(error).replace("sbatch: error: ", "") or "no reason given"
    told = [words, f"asked for: {shown}", f"the script: {script}"]
    if cause := next((cause for pattern, cause in _CAUSES.items() if re.search(pattern, words)), None):
        told.insert(1, f"likely cause: {cause}")
    return RefusedError(error.kind, "\n  ".join(told))
