"""Commands of a Slurm cluster that is a file.

They print the output of Slurm 22.05, and support only the options that are used here. No job starts or ends by itself:
`cluster.FakeSlurm` controls them. Tests call the commands hundreds of times, so they import next to nothing.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing, json, re, signal and enum would take most of the time of a call
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Job = dict[str, Any]

_TERM = 15
OVER = ("CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")
SETTINGS: dict[str, Any] = {
    "controller": "up",  # or "away"; or "late": it takes a job, but sbatch does not learn of it
    "accounting": "up",  # or "away" for a while, or "none"
    "accounting_lag_s": 0.0,
    "hanging": [],  # commands that do not answer
    "max_array_size": 1001,
    "boot_time": 0,
    "cluster_name": "here",
    "max_job_count": 10_000,
    "max_submitted": None,
    "max_running": None,
    "min_job_age_s": 300.0,
    "accounts": None,  # those that there are; None: any
}
NEW = {
    "settings": SETTINGS,
    "clock_offset_s": 0.0,
    "next_number": 1,
    "jobs": {},
    "nodes": dict.fromkeys(("n1", "n2", "n3", "n4"), "idle"),
}


class Cluster:
    """State of the cluster, locked against other processes while it is in use."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __enter__(self) -> Cluster:
        self._file = open(os.path.join(self.folder, "state"), "rb+")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._before = self._file.read()
        self.state: dict[str, Any] = marshal.loads(self._before)
        self.settings: dict[str, Any] = self.state["settings"]
        self.jobs: dict[str, Job] = self.state["jobs"]
        self.now: float = time.time() + self.state["clock_offset_s"]
        self.running = {job["id"]: job for job in self.jobs.values() if job["state"] == "RUNNING"}
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and (after := marshal.dumps(self.state)) != self._before:
            self._file.seek(0)
            self._file.write(after)
            self._file.truncate()
        self._file.close()

    # ------------------------------------------------------------------------------------- transitions

    def submit(self, options: dict[str, str], tasks: list[int] | None, throttle: int | None) -> str:
        number = self.state["next_number"]
        self.state["next_number"] += len(tasks or [0])
        for position, task in enumerate(tasks or [None]):
            job: Job = {
                "id": str(number) if task is None else f"{number}_{task}",
                "number": number + position,
                "array": None if task is None else str(number),
                "task": task,
                "throttle": throttle,
                "name": options.get("job-name", "wrap" if "wrap" in options else "sbatch"),
                "options": options,
                "state": "PENDING",
                "held": "JobHeldUser" if "hold" in options else "",
                "requeue": "no-requeue" not in options,
                "restarts": 0,
                "submitted": self.now,
                "time_limit_min": _minutes(options.get("time", "60")),
                "signals": [],
                "gone": False,  # canceled before it began, as a single task: no command shows it any more
                "forgotten": False,  # by the controller
                "user": user(),
                "told": [],  # what the database was told: time, restarts, state ...
                **_NOTHING_YET,
            }
            self.jobs[job["id"]] = job
            self._tell(job)
        return str(number)

    def start(self, job: Job, nodes: Iterable[str]) -> None:
        job.update(state="RUNNING", started=self.now, ended=None, nodes=list(nodes))
        self.running[job["id"]] = job
        self._tell(job)

    def end(self, job: Job, state: str, exit_code: int = 0, signal_number: int = 0) -> None:
        job.update(state=state, ended=self.now, exit_code=exit_code, signal=signal_number, pid=None)
        job["started"] = job["started"] or self.now
        self.running.pop(job["id"], None)
        self._tell(job)

    def put_back(self, job: Job, ended_as: str, held: str = "") -> None:
        """Requeue a job, which the database reports as ended for two seconds."""
        self.end(job, ended_as)
        job.update(state="PENDING", held=held, restarts=job["restarts"] + 1, **_NOTHING_YET)
        self._tell(job, after_s=2.0)

    def _tell(self, job: Job, after_s: float = 0.0) -> None:
        told = ("state", "started", "ended", "nodes", "exit_code", "signal")
        job["told"].append([self.now + after_s, job["restarts"], {name: job[name] for name in told}])

    # ------------------------------------------------------------------------------------------- views

    def known(self) -> list[Job]:
        """Return the jobs that the controller still has."""
        youngest = self.now - self.settings["min_job_age_s"]
        return [
            job
            for job in self.jobs.values()
            if not job["gone"] and not job["forgotten"] and not (job["state"] in OVER and job["ended"] < youngest)
        ]

    def named(self, job_id: str) -> list[Job]:
        """Return a job, or all tasks of an array, that the controller still has."""
        return [job for job in self.known() if job_id in (job["id"], job["array"])]

    def reason(self, job: Job) -> str:
        """Return Slurm's reason for a job's state; `None` is the reason of a job that can start."""
        if job["state"] != "PENDING":
            return {"FAILED": "NonZeroExitCode", "TIMEOUT": "TimeLimit", "NODE_FAIL": "NodeDown"}.get(
                job["state"], "None"
            )
        if job["held"]:
            return str(job["held"])
        if not (fulfilled := self._dependency(job)):
            return "Dependency" if fulfilled is None else "DependencyNeverSatisfied"
        running = self.running.values()
        if job["throttle"] and sum(other["array"] == job["array"] for other in running) >= job["throttle"]:
            return "JobArrayTaskLimit"
        most = self.settings["max_running"]
        return "AssocMaxJobsLimit" if most is not None and len(running) >= most else "None"

    def _dependency(self, job: Job) -> bool | None:
        """Return whether a dependency is fulfilled, or None if it is open; unknown jobs fulfill it (Slurm 22.05)."""
        verdicts: list[bool | None] = []
        conditions = job["options"].get("dependency", "")
        any_of_them = "?" in conditions
        for condition in filter(None, conditions.replace("?", ",").split(",")):
            kind, *ids = condition.split(":")
            for other in self.jobs.values():
                if other["id"] in ids or other["array"] in ids:
                    well, over = other["state"] == "COMPLETED", other["state"] in OVER
                    wanted = {"afterok": well, "afternotok": not well, "afterany": True}[kind]
                    verdicts.append(wanted if over else None)
        if any_of_them and True in verdicts:
            return True
        return False if False in verdicts else None if None in verdicts else True


_NOTHING_YET: dict[str, Any] = {
    "started": None,
    "ended": None,
    "nodes": [],
    "exit_code": 0,
    "signal": 0,
    "pid": None,
}

# ------------------------------------------------------------------------------------------------ sbatch

_SBATCH_SHORT = {
    **{"A": "account", "a": "array", "c": "cpus-per-task", "C": "constraint", "d": "dependency", "D": "chdir"},
    **{"e": "error", "H": "hold", "J": "job-name", "n": "ntasks", "N": "nodes", "o": "output", "p": "partition"},
    **{"q": "qos", "t": "time", "w": "nodelist", "x": "exclude"},
}
_SBATCH_FLAGS = ("exclusive", "hold", "no-requeue", "overcommit", "parsable", "requeue", "test-only")
_SBATCH_VARIABLES = {
    **{"SBATCH_ACCOUNT": "account", "SBATCH_ARRAY_INX": "array", "SBATCH_JOB_NAME": "job-name"},
    **{"SBATCH_NO_REQUEUE": "no-requeue", "SBATCH_PARTITION": "partition", "SBATCH_QOS": "qos"},
    **{"SBATCH_REQUEUE": "requeue", "SBATCH_TIMELIMIT": "time"},
}
_NOT_SUBMITTED = "sbatch: error: Batch job submission failed: "
_POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


def sbatch(cluster: Cluster, arguments: list[str]) -> int:
    given, rest = _options(arguments, _SBATCH_SHORT, _SBATCH_FLAGS)
    if "wrap" in given:
        script = f"#!/bin/sh\n\n{given['wrap']}\n"
    else:
        with open(rest[0]) as file:
            script = file.read()
    if not script.startswith("#!"):
        return _fail("sbatch: error: This does not look like a batch script.")
    # The user's shell wins over the script, and the command line over both.
    variables = {name: os.environ[key] for key, name in _SBATCH_VARIABLES.items() if key in os.environ}
    options = _in_script(script) | variables | given
    if "requeue" in variables | given:
        options.pop("no-requeue", None)
    tasks, throttle = _tasks(options["array"]) if "array" in options else (None, None)
    if refusal := _refusal(cluster, options, tasks or [0]):
        return _fail(refusal)
    number = cluster.submit(options, tasks, throttle)
    copy = os.path.join(cluster.folder, f"{number}.sh")
    with open(copy, "w") as file:
        file.write(script)
    with open(os.path.join(cluster.folder, f"{number}.submitted"), "wb") as submitted:
        marshal.dump({"environment": dict(os.environ), "folder": options.get("chdir", os.getcwd())}, submitted)
    if cluster.settings["controller"] == "late":
        return _fail(_NOT_SUBMITTED + "Socket timed out on send/recv operation")
    print(number if "parsable" in options else f"Submitted batch job {number}")
    return 0


def _in_script(script: str) -> dict[str, str]:
    import shlex

    words: list[str] = []
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            words += shlex.split(line.removeprefix("#SBATCH"))
        elif line and not line.startswith("#"):
            break
    return _options(words, _SBATCH_SHORT, _SBATCH_FLAGS)[0]


def _refusal(cluster: Cluster, options: dict[str, str], tasks: list[int]) -> str:
    settings = cluster.settings
    if settings["accounts"] is not None and options.get("account") not in settings["accounts"]:
        return _NOT_SUBMITTED + "Invalid account or account/partition combination specified"
    if max(tasks) >= settings["max_array_size"]:
        return _NOT_SUBMITTED + "Invalid job array specification"
    if set(cluster.state["nodes"]) <= set(options.get("exclude", "").split(",")):
        return _NOT_SUBMITTED + "Requested node configuration is not available"
    live = sum(job["state"] not in OVER for job in cluster.jobs.values())
    if settings["max_submitted"] is not None and live + len(tasks) > settings["max_submitted"]:
        return f"sbatch: error: AssocMaxSubmitJobLimit\n{_NOT_SUBMITTED}{_POLICY}"
    if live + len(tasks) > settings["max_job_count"]:
        return (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
            f"{_NOT_SUBMITTED}Resource temporarily unavailable"
        )
    return ""


# --------------------------------------------------------------------------------------- squeue and sacct


def squeue(cluster: Cluster, arguments: list[str]) -> int:
    short = {
        "h": "noheader",
        "r": "array",
        "t": "states",
        "j": "jobs",
        "n": "name",
        "o": "format",
        "O": "Format",
        "u": "user",
    }
    options, _ = _options(arguments, short, ("noheader", "array", "me"))
    if "jobs" in options and not any(cluster.named(job_id) for job_id in options["jobs"].split(",")):
        return _fail("slurm_load_jobs error: Invalid job id specified")
    states = options.get("states", os.environ.get("SQUEUE_STATES", "PENDING,RUNNING,SUSPENDED")).upper().split(",")
    jobs = [job for job in cluster.known() if "ALL" in states or job["state"] in states]
    if "me" in options:
        jobs = [job for job in jobs if job["user"] == user()]
    if "jobs" in options:
        wanted = options["jobs"].split(",")
        jobs = [job for job in jobs if job["id"] in wanted or job["array"] in wanted]
    if names := options.get("name", os.environ.get("SQUEUE_NAMES")):
        jobs = [job for job in jobs if job["name"] in names.split(",")]
    rows = [(job, job["id"]) for job in jobs]
    if "array" not in options:
        rows = _together(rows, {job["id"] for job in jobs if job["state"] == "PENDING" and not job["restarts"]})
    fields = list(_squeue_fields(options["Format"]))
    if "noheader" not in options:
        print("".join(name.upper()[: width or None].ljust(width) + suffix for name, width, suffix in fields))
    for job, shown_id in rows:
        texts = _squeue_texts(cluster, job, shown_id)
        print("".join(texts[name][: width or None].ljust(width) + suffix for name, width, suffix in fields))
    return 0


def user() -> str:
    """Return the user that calls a command."""
    return os.environ.get("FAKE_SLURM_USER", "me")


def _squeue_fields(form: str) -> Iterator[tuple[str, int, str]]:
    """Parse `Name:40|` into name, width (0: no truncation) and separator."""
    for part in form.split(","):
        name, colon, how = part.partition(":")
        suffix = how.lstrip("0123456789")
        yield name.lower(), int(how.removesuffix(suffix) or 0) if colon else 20, suffix


def _squeue_texts(cluster: Cluster, job: Job, shown_id: str) -> dict[str, str]:
    end = job["ended"] or (job["started"] + 60 * job["time_limit_min"] if job["started"] else None)
    return {
        "jobarrayid": shown_id,
        "jobid": str(job["number"]),
        "name": job["name"],
        "state": job["state"],
        "reason": cluster.reason(job),
        "exit_code": str(job["signal"] or job["exit_code"] << 8),
        "restartcnt": str(job["restarts"]),
        "starttime": _moment(job["started"], "N/A"),
        "endtime": _moment(end, "N/A"),
        "submittime": _moment(job["submitted"], "N/A"),
        "timelimit": _clock(job["time_limit_min"]),
        "nodelist": ",".join(job["nodes"]),
        "partition": job["options"].get("partition", "main"),
        "username": "user",
    }


def sacct(cluster: Cluster, arguments: list[str]) -> int:
    if (status := _database_fails(cluster, "sacct")) is not None:
        return status
    short = {"n": "noheader", "X": "allocations", "P": "parsable2", "D": "duplicates", "j": "jobs", "o": "format"}
    short |= {"S": "starttime", "u": "user"}
    flags = ("noheader", "allocations", "parsable2", "duplicates")
    options, _ = _options(arguments, short, flags)
    jobs = [job for job in cluster.jobs.values() if job["user"] == user()]  # as under PrivateData=jobs
    if "jobs" in options:
        wanted = options["jobs"].split(",")
        jobs = [job for job in jobs if job["id"] in wanted or job["array"] in wanted]
    if "name" in options:
        jobs = [job for job in jobs if job["name"] in options["name"].split(",")]
    rows: list[tuple[Job, Job]] = []  # the job, and one start of it
    for job in jobs:
        told: dict[int, Job] = {}
        for at, restarts, start in job["told"]:
            if at <= cluster.now - cluster.settings["accounting_lag_s"]:
                told[restarts] = start
        starts = list(told.values())
        rows += [(job, start) for start in (starts if "duplicates" in options else starts[-1:])]
    names = options.get("format", "JobID,JobName,State,ExitCode").split(",")
    if "noheader" not in options:
        print("|".join(names))
    for job, start, shown_id in _sacct_lines(rows):
        texts = _sacct_texts(cluster, job, start, shown_id)
        print("|".join(texts[name.lower()] for name in names))
    return 0


def _sacct_lines(rows: list[tuple[Job, Job]]) -> Iterator[tuple[Job, Job, str]]:
    """Yield sacct's lines: pending tasks share one, which also lists canceled tasks that have no line of their own."""
    waiting: dict[str, list[tuple[Job, Job]]] = {}
    gone: dict[str, list[Job]] = {}
    for job, start in rows:
        if job["gone"]:
            gone.setdefault(job["array"], []).append(job)
        elif job["array"] is not None and not start["nodes"] and not job["restarts"]:
            waiting.setdefault(f"{job['array']} {start['state']}", []).append((job, start))
        else:
            yield job, start, job["id"]
    for group in waiting.values():
        job, start = group[0]
        yield job, start, _one_id([*(job for job, _ in group), *gone.get(job["array"], [])])


def _sacct_texts(cluster: Cluster, job: Job, start: Job, shown_id: str) -> dict[str, str]:
    never = "None" if start["state"] == "CANCELLED" and not start["nodes"] else "Unknown"
    return {
        "jobid": shown_id,
        "jobidraw": str(job["number"]),
        "jobname": job["name"],
        "state": "CANCELLED by 1000" if start["state"] == "CANCELLED" else start["state"],
        "reason": cluster.reason(job) if start["state"] == "PENDING" else "None",
        "exitcode": f"{start['exit_code']}:{start['signal']}",
        "start": never if not start["nodes"] else _moment(start["started"], "Unknown"),
        "end": _moment(start["ended"], "Unknown"),
        "timelimitraw": str(job["time_limit_min"]),
        "nodelist": ",".join(start["nodes"]) or "None assigned",
    }


def _database_fails(cluster: Cluster, command: str) -> int | None:
    if cluster.settings["accounting"] == "none":
        if command == "sacct":
            return _fail("Slurm accounting storage is disabled")
        return _fail("You are not running a supported accounting_storage plugin")
    if cluster.settings["accounting"] == "away":
        return _fail(
            f"{command}: error: slurm_persist_conn_open_without_init: failed to open persistent connection to "
            f"host:127.0.0.1:6819: Connection refused\n{command}: error: Sending PersistInit msg: Connection refused"
        )
    return None


# ----------------------------------------------------------------------------- scontrol, scancel and others


def scontrol(cluster: Cluster, arguments: list[str]) -> int:
    _, (verb, *objects) = _options(arguments, {"o": "oneliner"}, ("oneliner",))
    if verb == "show":
        return _show(cluster, objects[0])
    if verb == "update":
        given = dict(text.split("=", 1) for text in objects)
        jobs = cluster.named(given.pop("JobId"))
        for job in jobs:
            job["options"] |= {name.lower(): value for name, value in given.items()}
        return 0 if jobs else _fail("Invalid job id specified")
    if verb == "ping":
        print("Slurmctld(primary) at host is UP")
        return 0
    status = 0
    for job_id in ",".join(objects).split(","):
        jobs = cluster.named(job_id)
        if not jobs:
            status = _fail(f"Invalid job id specified for job {job_id}")
        for job in jobs:
            if verb == "requeue":
                status |= _requeue(cluster, job)
            elif verb in ("hold", "release"):
                job["held"] = "JobHeldUser" if verb == "hold" else ""
            else:
                status = _fail(f"invalid keyword: {verb}")
    return status


def _requeue(cluster: Cluster, job: Job) -> int:
    if job["state"] == "PENDING":
        return _fail(f"{job['id']}: Job is pending execution")
    if not job["requeue"]:
        return _fail(f"Requested operation is presently disabled for job {job['id']}")
    _send(job, _TERM)
    cluster.put_back(job, "REQUEUED")
    return 0


def _show(cluster: Cluster, kind: str) -> int:
    settings = cluster.settings
    if kind == "config":
        enforced = "none" if settings["max_submitted"] is None else "associations,limits,qos"
        print(f"AccountingStorageEnforce = {enforced}\nMaxArraySize            = {settings['max_array_size']}")
        print(f"ClusterName             = {settings['cluster_name']}\nSlurmctldHost[0]        = ctl(10.0.0.1)")
        print(f"BOOT_TIME               = {settings['boot_time']}")
    elif kind == "partition":
        print("PartitionName=main Default=YES QoS=N/A MaxNodes=UNLIMITED MaxTime=2-00:00:00 Nodes=n[1-4] State=UP")
    else:
        return _fail(f"invalid entity: {kind}")
    return 0


def scancel(cluster: Cluster, arguments: list[str]) -> int:
    options, ids = _options(arguments, {"s": "signal", "n": "name"}, ("batch", "full", "me", "quiet"))
    ids += [job["id"] for job in cluster.known() if job["name"] == options.get("name")]
    status = 0
    for job_id in ids:
        jobs = [job for job in cluster.named(job_id) if job["state"] not in OVER]
        if "signal" not in options:
            for job in jobs:
                _cancel(cluster, job, alone=job_id == job["id"])
        elif not jobs:
            status = _fail(f"scancel: error: Kill job error on job id {job_id}: Invalid job id specified")
        for job in jobs if "signal" in options else []:
            if job["state"] == "PENDING":
                status = _fail(
                    f"scancel: error: Kill job error on job id {job_id}: Job can not be altered now, try again later"
                )
            else:
                job["signals"].append(options["signal"])
                _send(job, _signal_number(options["signal"]))
    return status


def _cancel(cluster: Cluster, job: Job, alone: bool) -> None:
    if job["state"] == "PENDING":
        job["gone"] = alone and job["array"] is not None
        cluster.end(job, "CANCELLED")
    else:
        _send(job, _TERM)
        cluster.end(job, "CANCELLED", signal_number=_TERM)


def _signal_number(name: str) -> int:
    import signal

    return signal.Signals[f"SIG{name.removeprefix('SIG')}"]


def _send(job: Job, number: int) -> None:
    """Send a signal to the processes of a job that a test runs, except if one of them sent it."""
    if job["pid"] is not None and os.getpgid(0) != job["pid"]:
        try:
            os.killpg(job["pid"], number)
        except ProcessLookupError:
            job["pid"] = None


def sinfo(cluster: Cluster, arguments: list[str]) -> int:
    options, _ = _options(arguments, {"h": "noheader", "N": "Node", "o": "format"}, ("noheader", "Node"))
    for node, state in cluster.state["nodes"].items():
        print(options.get("format", "%N %T").replace("%N", node).replace("%T", state))
    return 0


def sacctmgr(cluster: Cluster, arguments: list[str]) -> int:
    if (status := _database_fails(cluster, "sacctmgr")) is not None:
        return status
    most = [cluster.settings[name] for name in ("max_submitted", "max_running")]
    submitted, running = ("" if number is None else str(number) for number in most)
    if "user" in arguments:
        print(f"main|main|||{submitted}|{running}|")  # as `limits` of hpc/cluster/schedulers/slurm.py asks
    elif "qos" in arguments:
        print("||")
    return 0


def srun(cluster: Cluster, arguments: list[str]) -> int:
    """Run one task, which replaces this process."""
    short = {"o": "output", "e": "error", "n": "ntasks", "N": "nodes", "c": "cpus-per-task"}
    flags = ("unbuffered", "overlap", "exact", "kill-on-bad-exit")
    options, command = _options(arguments, short, flags, interspersed=False)
    names = ("PROCID", "LOCALID", "NODEID", "STEP_ID", "STEPID", "GTIDS")
    task = {f"SLURM_{name}": "0" for name in names} | {
        "SLURM_STEP_NUM_TASKS": "1",
        "SLURM_NTASKS": "1",
        "SLURM_NPROCS": "1",
    }
    environment = os.environ | task
    for stream, name in ((1, "output"), (2, "error")):
        if name in options or name == "error":
            file = options.get(name, options.get("output"))
            if file is not None:
                descriptor = os.open(log_file(file, environment), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                os.dup2(descriptor, stream)
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        print(f"slurmstepd: error: execve(): {command[0]}: No such file or directory", file=sys.stderr)
    return 2


def log_file(pattern: str, environment: dict[str, str]) -> str:
    array = environment.get("SLURM_ARRAY_JOB_ID", environment["SLURM_JOB_ID"])
    replaced = {
        "%": "%",
        "j": environment["SLURM_JOB_ID"],
        "A": array,
        "a": environment.get("SLURM_ARRAY_TASK_ID", "0"),
        "t": "0",
        "u": "user",
    }
    first, *parts = pattern.split("%")
    texts = iter(parts)
    for part in texts:
        first += replaced[part[:1]] + part[1:] if part else "%" + next(texts, "")
    return first


# ------------------------------------------------------------------------------------------------- words


def _options(
    arguments: list[str], short: dict[str, str], flags: tuple[str, ...], interspersed: bool = True
) -> tuple[dict[str, str], list[str]]:
    """Parse options to {long name: value} and the rest; values of a repeated option are joined by commas."""
    options: dict[str, str] = {}
    rest: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, equals, value = short[word[1]], "=" if word[2:] else "", word[2:]
            if name in flags and value:
                left.insert(0, f"-{value}")  # -hr
                equals = value = ""
        elif interspersed:
            rest.append(word)
            continue
        else:
            return options, [word, *left]
        if name not in flags and not equals:
            value = left.pop(0)
        options[name] = f"{options[name]},{value}" if name in options and name == "jobs" else value
    return options, rest


def _tasks(text: str) -> tuple[list[int], int | None]:
    """Parse `0-9,20-28:2%4` into indices and the number of tasks that may run at once."""
    listed, _, throttle = text.partition("%")
    tasks: list[int] = []
    for part in listed.split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        tasks += range(int(first), int(last or first) + 1, int(step or 1))
    return tasks, int(throttle) if throttle else None


def _together(rows: list[tuple[Job, str]], waiting: set[str]) -> list[tuple[Job, str]]:
    shown: dict[str, list[Job]] = {}
    for job, job_id in rows:
        shown.setdefault(f"{job['array']}_" if job["array"] and job_id in waiting else job_id, []).append(job)
    return [(jobs[0], _one_id(jobs) if key.endswith("_") else key) for key, jobs in shown.items()]


def _one_id(jobs: list[Job]) -> str:
    """Return `12_[0,3-5%2]`, truncated at SLURM_BITSTR_LEN."""
    tasks = sorted(job["task"] for job in jobs)
    spans: list[list[int]] = []
    for task in tasks:
        if spans and spans[-1][1] == task - 1:
            spans[-1][1] = task
        else:
            spans.append([task, task])
    text = ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)
    if jobs[0]["throttle"]:
        text += f"%{jobs[0]['throttle']}"
    longest = int(os.environ.get("SLURM_BITSTR_LEN", "64"))
    return f"{jobs[0]['array']}_[{text if not longest or len(text) < longest else text[: longest - 3] + '...'}]"


def _moment(at: float | None, otherwise: str) -> str:
    if at is None:
        return otherwise
    form = os.environ.get("SLURM_TIME_FORMAT", "%Y-%m-%dT%H:%M:%S")
    return time.strftime(form, time.localtime(at))


def _clock(minutes: int) -> str:
    days, rest = divmod(minutes, 24 * 60)
    hours, rest = divmod(rest, 60)
    return (f"{days}-{hours:02d}:" if days else f"{hours}:" if hours else "") + f"{rest:02d}:00"


def _minutes(text: str) -> int:
    """Parse sbatch's --time: `90`, `1:30:00` or `2-00:00:00`."""
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if len(parts) == 3:
        hours, minutes = parts[:2]
    else:
        hours, minutes = 0, parts[0]
    return (int(days or 0) * 24 + hours) * 60 + minutes


def _fail(words: str) -> int:
    print(words, file=sys.stderr)
    return 1


# ------------------------------------------------------------------------------------------------- main

_COMMANDS: dict[str, Callable[[Cluster, list[str]], int]] = {
    **{"sbatch": sbatch, "squeue": squeue, "sacct": sacct, "scontrol": scontrol},
    **{"scancel": scancel, "sinfo": sinfo, "sacctmgr": sacctmgr, "srun": srun},
}
_AWAY = "Unable to contact slurm controller (connect failure)"
_WORDS_OF_AN_ABSENT_CONTROLLER = {
    "sbatch": _NOT_SUBMITTED + _AWAY,
    "squeue": f"slurm_load_jobs error: {_AWAY}",
    "scancel": f"scancel: error: Kill job error: {_AWAY}",
    "scontrol": "Unexpected message received for job 1",
    "sinfo": f"slurm_load_partitions: {_AWAY}",
}


def main(command: str, folder: str, *arguments: str) -> int:
    if command == "srun":
        return srun(Cluster(folder), list(arguments))
    with Cluster(folder) as cluster:
        with open(os.path.join(folder, "calls"), "ab") as calls:
            marshal.dump([command, *arguments], calls)
        if command not in cluster.settings["hanging"]:
            if cluster.settings["controller"] == "away" and command in _WORDS_OF_AN_ABSENT_CONTROLLER:
                if arguments[:2] == ("show", "config"):
                    return _fail(f"slurm_load_ctl_conf error: {_AWAY}")
                return _fail(_WORDS_OF_AN_ABSENT_CONTROLLER[command])
            return _COMMANDS[command](cluster, list(arguments))
    time.sleep(600)
    return 1
