"""Parse sbatch rejections: their kind, likely cause and remedy."""

import re
from pathlib import Path

from fgssl.errors import UserError
from hpc.cluster.schedulers.scheduler import Refusal, RefusedError, SchedulerUnavailableError

AWAY = (
    r"Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted|Transport endpoint|"
    r"Connection (timed out|refused)|Unexpected message received"
)
"""Messages of Slurm's commands if the controller does not answer."""
_REFUSALS = {
    Refusal.ARRAY: r"Invalid job array specification",
    # The last one is MaxJobCount. Other policies limit size or time, so waiting would not help.
    Refusal.FULL: r"(QOS|Assoc)\w*Submit\w*Limit|Resource temporarily unavailable",
    Refusal.ACCOUNT: r"Invalid account",
}
_NOT_ASKED = ("job-name", "open-mode", "output", "requeue", "no-requeue", "signal", "array", "chdir")
"""Options to omit from messages: no site rejects them, or they have their own error."""
_CAUSES = {
    r"accounting/QOS policy|(QOS|Assoc)(Max|Grp)": (
        "a limit of your account or QOS: lower jobs.default.nodes or walltime_min, or use another account"
    ),
    r"Invalid account": "account: set cluster.account=NAME (`sacctmgr show associations user=$USER` lists yours)",
    r"(?i)invalid partition|partition .*not available": "partition: set jobs.default.partition=NAME (see `sinfo -s`)",
    r"(?i)invalid qos": "QOS: set jobs.default.qos=NAME (`sacctmgr show associations user=$USER` lists yours)",
    r"(?i)time limit": "walltime: lower jobs.default.walltime_min (`sinfo -o '%P %l'` lists the limits)",
    r"(?i)node configuration|node count|generic resource|\bgres\b|memory|CPU count": (
        "size: no node of the partition is that large; lower jobs.default.processes_per_node, cores_per_process or "
        "memory_gb_per_node, or set another gpu.type in the profile (`sinfo -o '%P %c %m %G'` lists the nodes)"
    ),
    r"(?i)feature|reservation": "jobs.default.options: the site has no such constraint or reservation",
}
"""Message of sbatch to the likely cause and its remedy."""


def refused(stderr: str) -> RefusedError | SchedulerUnavailableError:
    """Return the error to raise if sbatch failed; only a `RefusedError` guarantees that there is no job."""
    if re.search(AWAY, stderr):
        return SchedulerUnavailableError(stderr.strip())
    kind = next((kind for kind, words in _REFUSALS.items() if re.search(words, stderr)), Refusal.OTHER)
    return RefusedError(kind, stderr.strip())


def explained(error: UserError, script: Path) -> UserError:
    """Return the error with the script's options and the likely cause, unless waiting or a smaller array helps."""
    if not isinstance(error, RefusedError) or error.kind in (Refusal.FULL, Refusal.ARRAY):
        return error
    asked = [
        line.removeprefix("#SBATCH --")
        for line in script.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        if line.startswith("#SBATCH --")
    ]
    shown = " ".join(f"--{option}" for option in asked if option.partition("=")[0] not in _NOT_ASKED)
    words = str(error).replace("sbatch: error: ", "") or "no reason given"
    told = [words, f"options: {shown}", f"script: {script}"]
    if cause := next((cause for pattern, cause in _CAUSES.items() if re.search(pattern, words)), None):
        told.insert(1, f"likely cause: {cause}")
    return RefusedError(error.kind, "\n  ".join(told))
