"""`scheduler.Scheduler` by Slurm's commands.

The controller (squeue) knows what waits and runs and, for some minutes (MinJobAge), what is over. The database (sacct),
where a site has one, keeps what is over for good; but it lags behind, shows a job that went back to the queue as ended,
and shows tasks of arrays as PENDING that were cancelled before they began. So the controller has the first word; of
what it has forgotten, the database is believed that it is over and how, but not that it is alive.
"""

import os
import pwd
import re
import signal
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from fgssl.errors import UserError
from hpc.cluster.schedulers.refusals import AWAY, explained, refused
from hpc.cluster.schedulers.scheduler import HELD, OVER, UNKNOWN, JobFact, SchedulerUnavailableError
from hpc.cluster.site.profile import LimitSettings

_PATIENCE_S = 60.0
"""Slurm's own is about 10 s with a busy controller, and 45 s with a database that hangs."""
_SUBMISSION_PATIENCE_S = 120.0
_IDS_AT_ONCE = 5000
"""One argument may have 128 KiB."""
_SEARCHED = "now-30days"
# The same fields in the same order, but that squeue alone counts restarts. Names may hold the separator: they are last.
_QUEUE = "JobArrayID,State,Reason,exit_code,RestartCnt,StartTime,EndTime,TimeLimit,NodeList,Name"
_DATABASE = "JobID,State,Reason,ExitCode,JobIDRaw,Start,End,TimelimitRaw,NodeList,JobName"
_FIELDS = 10
_OVER_ALREADY = r"Invalid job id specified|already completing or completed"
_NO_DATABASE = r"accounting storage is disabled|not running a supported accounting_storage plugin"
_STRIPPED = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SLURM_")
"""Variables that change what commands do and print, and those of a job."""
_NOT_FOR_JOBS = ("SBATCH_", "SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "TORCHELASTIC_")
_OF_TORCHRUN = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT"),
}
"""By name: a site's own LOCAL_SCRATCH and its like must stay."""


class Slurm:
    """By its commands on this machine, one call for any number of jobs."""

    def submit(self, script: Path) -> str:
        answer = _sbatch("--parsable", str(script))
        if answer.returncode != 0:
            raise explained(refused(answer.stderr), script)
        job = re.fullmatch(r"(\d+)(;\S+)?", answer.stdout.strip().rpartition("\n")[2])  # a site's own words may precede
        if job is None:
            raise SchedulerUnavailableError(f"sbatch did not say which job it made: {answer.stdout.strip()!r}")
        return job[1]

    def why_not(self, script: Path) -> str:
        """What sbatch would say to this job; empty: it would take it."""
        answer = _sbatch("--test-only", str(script))
        return "" if answer.returncode == 0 else answer.stderr.strip()

    def facts(self, job_ids: Collection[str]) -> dict[str, JobFact]:
        if not job_ids:
            return {}
        queue = {fact.job_id: fact for fact in self._queue()}
        found = {job_id: queue[job_id] for job_id in job_ids if job_id in queue}
        forgotten = [job_id for job_id in job_ids if job_id not in queue]
        try:
            history = self.history(forgotten)
        except SchedulerUnavailableError:
            why = "the accounting database does not answer"
            return found | {job_id: JobFact(job_id, "", UNKNOWN, why) for job_id in forgotten}
        return found | {job_id: starts[-1] for job_id, starts in history.items() if starts[-1].over}

    def history(self, job_ids: Collection[str]) -> dict[str, list[JobFact]]:
        """Every start of each job, the first one first, as the database has them, also while the controller is away.

        Empty where there is no database.
        """
        starts: dict[str, list[JobFact]] = {job_id: [] for job_id in job_ids}
        asked = sorted({job_id.partition("_")[0] for job_id in job_ids})  # tasks that never began are listed as one
        for first in range(0, len(asked), _IDS_AT_ONCE):
            for fact in self._database(f"--jobs={','.join(asked[first : first + _IDS_AT_ONCE])}"):
                if fact.job_id in starts:
                    starts[fact.job_id].append(fact)
        for facts in starts.values():
            facts.sort(key=lambda fact: fact.started or float("inf"))  # one that waits has none
        return {
            job_id: [replace(fact, restarts=number) for number, fact in enumerate(facts)]
            for job_id, facts in starts.items()
            if facts
        }

    def up_since(self) -> float:
        return _time(self.configuration().get("BOOT_TIME", "")) or 0.0

    def find(self, name: str) -> list[str]:
        def ids(facts: Iterable[JobFact]) -> list[str]:
            # What sbatch refused may be listed as FAILED without a node.
            taken = (fact for fact in facts if fact.name == name and (fact.state != "FAILED" or fact.nodes))
            return sorted({fact.job_id.partition("_")[0] for fact in taken}, key=int, reverse=True)

        return ids(self._queue()) or ids(
            self._database(f"--user={os.getuid()}", f"--name={name}", f"--starttime={_SEARCHED}")
        )

    def cancel(self, job_ids: Collection[str]) -> None:
        ids = sorted(job_ids)
        for first in range(0, len(ids), _IDS_AT_ONCE):
            answer = _run("scancel", *ids[first : first + _IDS_AT_ONCE])
            errors = answer.stderr.splitlines() or [""]
            if answer.returncode != 0 and not all(re.search(_OVER_ALREADY, error) for error in errors):
                raise _error(answer)

    def release(self, job_id: str) -> None:
        _ask("scontrol", "release", job_id)

    def signal(self, job_id: str, name: str) -> None:
        _ask("scancel", f"--signal={name}", job_id)

    def wait_for_any(self, job_id: str, others: Collection[str]) -> None:
        dependency = "?".join(f"afterany:{other}" for other in others)
        _ask("scontrol", "update", f"JobId={job_id}", f"Dependency={dependency}")

    def limits(self, partition: str | None = None, account: str | None = None, qos: str | None = None) -> LimitSettings:
        config, there = self.configuration(), self.partitions()
        key, value = ("Default", "YES") if partition is None else ("PartitionName", partition)
        chosen = next((one for one in there if one[key] == value), None)
        if chosen is None:
            names = ", ".join(one["PartitionName"] for one in there)
            raise UserError(f"partition {partition or 'by default'}: Slurm has none; it has {names}")
        enforced = {"limits", "safe", "all"}.intersection(config["AccountingStorageEnforce"].split(","))
        rules = list(_rules(chosen, account, qos)) if enforced else []
        return LimitSettings(
            submitted=_least(_number(submitted) for submitted, _, _ in rules),
            running=_least(_number(running) for _, running, _ in rules),
            array_index=int(config["MaxArraySize"]) - 1,
            nodes=_number(chosen["MaxNodes"]),
            longest_walltime_min=_least(_minutes(text) for text in (chosen["MaxTime"], *(rule[2] for rule in rules))),
        )

    def configuration(self) -> dict[str, str]:
        """Of the cluster, by Slurm's names: MaxArraySize, KillWait, ..."""
        lines = _ask("scontrol", "show", "config").splitlines()
        return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}

    def partitions(self) -> list[dict[str, str]]:
        """Those that this user may see: PartitionName, MaxTime, Nodes, ..."""
        return [_pairs(line) for line in _ask("scontrol", "--oneliner", "show", "partition").splitlines()]

    def nodes(self) -> list[dict[str, str]]:
        """NodeName, Gres, CPUEfctv, RealMemory, Partitions, ..."""
        return [_pairs(line) for line in _ask("scontrol", "--oneliner", "show", "node").splitlines()]

    def accounts(self) -> dict[str, tuple[str, ...]]:
        """This user's, and the QOS that jobs of each may have."""
        form = ("withassoc", "format=Account,QOS")
        user = pwd.getpwuid(os.getuid()).pw_name
        accounts: dict[str, tuple[str, ...]] = {}
        for line in _ask("sacctmgr", "--noheader", "--parsable2", "show", "user", user, *form).splitlines():
            account, _, qualities = line.partition("|")
            accounts[account] = tuple(dict.fromkeys([*accounts.get(account, ()), *filter(None, qualities.split(","))]))
        return accounts

    def _queue(self) -> Iterator[JobFact]:
        """All jobs of this user: one call for them is cheaper than one with thousands of ids."""
        form = f"--Format={_QUEUE.replace(',', ':0|,')}:0"  # 0: whole, however long
        for line in _ask("squeue", "--me", "--array", "--states=all", "--noheader", form).splitlines():
            yield from _facts(line, "squeue")

    def _database(self, *which: str) -> list[JobFact]:
        """Every start of these jobs; none where there is no database."""
        form = f"--format={_DATABASE}"
        answer = _run("sacct", "--duplicates", "--allocations", "--noheader", "--parsable2", form, *which)
        if re.search(_NO_DATABASE, answer.stderr):
            return []
        if answer.returncode != 0:
            raise SchedulerUnavailableError(f"the accounting database does not answer: {answer.stderr.strip()}")
        of_one: list[JobFact] = []
        of_many: list[JobFact] = []  # tasks that have not begun share a line; it may still name one that has
        for line in answer.stdout.splitlines():
            (of_many if line.partition("|")[0].endswith("]") else of_one).extend(_facts(line, "sacct"))
        begun = {fact.job_id for fact in of_one}
        return of_one + [fact for fact in of_many if fact.job_id not in begun]


def _rules(partition: Mapping[str, str], account: str | None, qos: str | None) -> Iterator[list[str]]:
    """Of the user's associations, and of their and the partition's QOS: most jobs submitted, running, longest time."""
    user = pwd.getpwuid(os.getuid()).pw_name
    most = "MaxSubmitJobs,MaxJobs,MaxWall"
    form = f"format=DefaultAccount,Account,Partition,DefaultQOS,{most}"
    qualities = {partition["QoS"], qos or "normal"} - {"N/A"}
    for line in _ask("sacctmgr", "--noheader", "--parsable2", "show", "user", user, "withassoc", form).splitlines():
        default_account, own_account, own_partition, default_qos, *rule = line.split("|")
        if own_account == (account or default_account) and own_partition in ("", partition["PartitionName"]):
            qualities.add(qos or default_qos or "normal")
            yield rule
    form = "format=MaxSubmitJobsPerUser,MaxJobsPerUser,MaxWall"
    names = f"name={','.join(sorted(qualities))}"
    for line in _ask("sacctmgr", "--noheader", "--parsable2", "show", "qos", "where", names, form).splitlines():
        yield line.split("|")


# ---------------------------------------------------------------------------------------------- commands


def _ask(*command: str) -> str:
    answer = _run(*command)
    if answer.returncode != 0:
        raise SchedulerUnavailableError(_words(answer)) if command[0] == "squeue" else _error(answer)
    return answer.stdout


def _error(answer: "subprocess.CompletedProcess[str]") -> UserError:
    return (SchedulerUnavailableError if re.search(AWAY, answer.stderr) else UserError)(_words(answer))


def _words(answer: "subprocess.CompletedProcess[str]") -> str:
    return f"{' '.join(answer.args[:2])}: {answer.stderr.strip() or f'exit status {answer.returncode}'}"


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    # Times since the epoch, and lists of an array's tasks in full.
    plain = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0", "LC_ALL": "C"}
    return _execute(command, _environment(_STRIPPED) | plain, _PATIENCE_S)


def _sbatch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    # SBATCH_* of the user's shell would win over the script, SLURM_* of a job be taken for its own.
    kept = {name: value for name, value in _environment(_NOT_FOR_JOBS).items() if name not in _OF_TORCHRUN}
    return _execute(("sbatch", *arguments), kept, _SUBMISSION_PATIENCE_S)


def _environment(stripped: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(stripped) or name == "SLURM_CONF"}


def _execute(
    command: Sequence[str], environment: Mapping[str, str], patience_s: float
) -> "subprocess.CompletedProcess[str]":
    """In a process group of its own: a command may be a site's script around the real one, which would live on."""
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError:
        raise UserError(
            f"no {command[0]} on PATH: Slurm's commands are needed, as a login node has them. In a container: bind "
            "them into it, or run this outside of it"
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


# ------------------------------------------------------------------------------------------ Slurm's words


def _facts(line: str, source: Literal["squeue", "sacct"]) -> Iterator[JobFact]:
    """Of each job that a line is about; of none, where it is the rest of a job's name that has line breaks."""
    texts = line.split("|", _FIELDS - 1)
    job = re.fullmatch(r"(\d+)(?:_(\d+)|_\[([\d,:-]+)(?:%\d+)?\])?", texts[0])
    if len(texts) < _FIELDS or job is None:
        return
    number, task, tasks = job.groups()
    _, state, reason, ending, restarts, start, end, limit, nodes, name = texts
    exit_code, signal_number = _exit(ending)
    # The database goes on saying why a job waited, when it is over.
    said = reason != "None" and (source == "squeue" or not re.fullmatch(OVER, state.partition(" ")[0]))
    fact = JobFact(
        job_id="",
        name=name,
        state=state.partition(" ")[0],  # CANCELLED by 1000
        reason=reason.replace("_", " ") if said else "",  # newer versions: launch_failed_requeued_held
        exit_code=exit_code,
        signal=signal_number,
        nodes=_nodes(nodes),
        restarts=int(restarts) if source == "squeue" else 0,
        time_limit_min=_minutes(limit),
        source=source,
    )
    # squeue gives times that it expects, too: of a start while it waits, of an end while it runs.
    started = None if fact.state in ("PENDING", *HELD) else _time(start)
    ended = _time(end) if fact.over or source == "sacct" else None
    for index in _range(tasks) if tasks else [task]:
        yield replace(fact, job_id=f"{number}_{index}" if index else number, started=started, ended=ended)


def _range(text: str) -> Iterator[str]:
    """`1,04-06,8-12:2` -> 1 04 05 06 8 10 12."""
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        for number in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{number:0{len(first)}}"


def _nodes(text: str) -> tuple[str, ...]:
    """`cn[1-2]-ib,login1` -> cn1-ib cn2-ib login1."""
    if text in ("None assigned", "(null)"):
        return ()
    parts = re.findall(r"(?:\[[^]]*\]|[^,\[])+", text)
    return tuple(name for part in parts for name in _expanded(part))


def _expanded(name: str) -> Iterator[str]:
    match = re.search(r"\[([^]]*)\]", name)
    if match is None:
        yield name
        return
    for number in _range(match[1]):
        for rest in _expanded(name[match.end() :]):
            yield name[: match.start()] + number + rest


def _exit(text: str) -> tuple[int, int]:
    """Exit code and signal: `3:0` of sacct, or what wait(2) returns, of squeue."""
    code, _, number = text.partition(":")
    if number:
        return int(code), int(number)
    status = int(text)
    return (0, status & 0x7F) if status & 0x7F else (status >> 8, 0)


def _pairs(line: str) -> dict[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in line.split())}


def _time(text: str) -> float | None:
    """None for Unknown, None and N/A."""
    return float(text) if text.isdecimal() else None


def _number(text: str) -> int | None:
    """None where there is no limit, or one of nothing at all."""
    return int(text) or None if text.isdecimal() else None


def _minutes(text: str) -> int | None:
    """`2-03:04:05`, `3:04:05`, `4:05` rounded up, or minutes alone; None for UNLIMITED and its like."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return _number(text)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes + (seconds > 0)


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)
