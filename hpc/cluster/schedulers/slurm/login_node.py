"""Compare a site's profile with what Slurm reports to a user on its login node."""

import dataclasses
import os
import pwd
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fgssl.errors import UserError
from hpc.cluster.doctor.diagnosis import Diagnosis, Verdict
from hpc.cluster.schedulers.slurm.commands import ask, configuration
from hpc.cluster.schedulers.slurm.facts import count, least, minutes, pairs
from hpc.cluster.site.profile import LimitSettings

Pairs = Mapping[str, str]
"""A partition, a node or the cluster, by Slurm's names."""
_OLDEST = (22, 5)
_COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sacctmgr")
_OF_ANY_PARTITION = ("array_index", "submitted", "running")
"""Limits that hold where jobs name no partition, too: the cluster's and the user's."""


def examine(diagnosis: Diagnosis) -> None:
    """Add findings to the diagnosis; a question that Slurm does not answer is a finding, too.

    Raises `UserError` where there is no Slurm, or it does not answer.
    """
    cluster = configuration()
    _commands(diagnosis)
    _configuration(diagnosis, cluster)
    _shell(diagnosis)
    nodes, partitions = shown("node"), {one["PartitionName"]: one for one in shown("partition")}
    if not partitions:
        raise UserError("Slurm shows no partition to you: ask the site's support what you may use")
    named, default = diagnosis.profile.partitions, _default(partitions)
    up = [name for name, one in partitions.items() if one["State"] == "UP"]
    known = up if named is None else [name for name in named if name in partitions]
    _partitions(diagnosis, partitions, known)
    _preemption(diagnosis, cluster, partitions, known, nodes)
    _nodes(diagnosis, nodes, default, known)
    limited = [partitions[name] for name in known or [default or next(iter(partitions))]]
    for section, look in (
        ("accounts", lambda: _accounts(diagnosis)),
        ("limits", lambda: _limits(diagnosis, cluster, limited, known)),
    ):
        try:
            look()
        except UserError as error:  # the database is away, or there is none
            diagnosis.add(Verdict.UNKNOWN, section, str(error))


def shown(what: str) -> list[Pairs]:
    """Return the nodes or partitions that this user may see, by Slurm's names: NodeName, Gres, MaxTime, ..."""
    return [pairs(line) for line in ask("scontrol", "--oneliner", "show", what).splitlines()]


def _of_user(*fields: str) -> list[list[str]]:
    """Return these fields of each of the user's associations."""
    user = pwd.getpwuid(os.getuid()).pw_name
    form = ("show", "user", user, "withassoc", f"format={','.join(fields)}")
    return [line.split("|") for line in ask("sacctmgr", "--noheader", "--parsable2", *form).splitlines()]


def _commands(diagnosis: Diagnosis) -> None:
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if missing:
        advice = "sweeps need them; without sacct alone, how jobs ended is known for some minutes only"
        diagnosis.add(Verdict.WARNING, "commands", f"not on PATH: {', '.join(missing)}: {advice}")
    else:
        diagnosis.add(Verdict.OK, "commands", f"{', '.join(_COMMANDS)} are on PATH")


def _configuration(diagnosis: Diagnosis, configuration: Pairs) -> None:
    version = configuration["SLURM_VERSION"]
    diagnosis.source = f"Slurm {version} of {configuration['ClusterName']}"
    new_enough = tuple(map(int, re.findall(r"\d+", version)[:2])) >= _OLDEST
    advice = "" if new_enough else ": older than 22.05, with which this was tested"
    diagnosis.add(Verdict.OK if new_enough else Verdict.WARNING, "Slurm", version + advice)
    if configuration["JobRequeue"] == "1":
        diagnosis.add(Verdict.OK, "JobRequeue", "jobs may go back into the queue")
    else:
        diagnosis.add(Verdict.WARNING, "JobRequeue", "0: jobs must ask for it, as those made here do; the job tells")
    diagnosis.add(Verdict.OK, "KillWait", f"{configuration['KillWait']} from SIGTERM to SIGKILL at the time limit")


def _shell(diagnosis: Diagnosis) -> None:
    names = sorted(name for name in os.environ if name.startswith(("SBATCH_", "SLURM_")) and name != "SLURM_CONF")
    if "SLURM_JOB_ID" in names:
        message = f"this shell belongs to job {os.environ['SLURM_JOB_ID']}: run this on a login node"
        diagnosis.add(Verdict.WARNING, "shell", message)
    elif names:
        set_here = ", ".join(f"{name}={os.environ[name]}" for name in names)
        advice = "jobs made here ignore them (say it in the profile), slurm/*.sbatch obey them: unset them"
        diagnosis.add(Verdict.WARNING, "shell", f"{set_here}: {advice}")
    else:
        diagnosis.add(Verdict.OK, "shell", "no SBATCH_* or SLURM_* variables that would change what jobs ask for")


def _accounts(diagnosis: Diagnosis) -> None:
    accounts: dict[str, dict[str, None]] = {}  # each with the QOS that its jobs may have
    for name, qualities in _of_user("Account", "QOS"):
        accounts.setdefault(name, {}).update(dict.fromkeys(filter(None, qualities.split(","))))
    account, wanted = diagnosis.profile.account, diagnosis.profile.accounts
    known = "; ".join(f"{name} (QOS {', '.join(qos) or 'by default'})" for name, qos in accounts.items()) or "none"
    if account is not None and account not in accounts:
        diagnosis.add(Verdict.DIFFERS, "account", f"{account} is not one of yours, which are {known}")
    elif account is not None or len(accounts) == 1:
        diagnosis.see("account", account or next(iter(accounts)))
    else:
        verdict = Verdict.WARNING if wanted.required else Verdict.OK
        diagnosis.add(verdict, "account", f"yours are {known}: choose one by cluster.account=NAME")
    if strange := [name for name in accounts if not wanted.fits(name)]:
        diagnosis.add(Verdict.WARNING, "accounts.pattern", f"{wanted.pattern} does not match {', '.join(strange)}")


@dataclass(frozen=True)
class _Kind:
    """A kind of node."""

    cores: int
    usable_cores: int
    memory_gb: float
    gpu_type: str = ""
    gpus: int = 0


def _kinds(node: Pairs) -> Iterator[_Kind]:
    """One for each type of its GPUs."""
    cores = int(node["Sockets"]) * int(node["CoresPerSocket"])
    threads = max(1, int(node["CPUTot"]) // cores)  # that count as CPUs
    usable = int(node.get("CPUEfctv", node["CPUTot"])) // threads
    memory_mb = int(node["RealMemory"]) - int(node.get("MemSpecLimit", 0))
    gpus = re.findall(r"\bgpu:(?:([^:(,]+):)?(\d+)", node["Gres"])
    for gpu_type, number in gpus or [("", "0")]:
        yield _Kind(cores, usable, memory_mb * 10 // 1024 / 10, gpu_type, int(number))


def _nodes(diagnosis: Diagnosis, nodes: Sequence[Pairs], default: str | None, known: Sequence[str]) -> None:
    """The most frequent kind in the profile's partition, with GPUs and without."""
    profile = diagnosis.profile
    wanted = profile.gpu.type if profile.gpu is not None else None

    def most(partition: str | None, with_gpus: bool) -> _Kind | None:
        kinds = Counter(
            (kind.gpu_type == wanted, partition in _partitions_of(node), kind)
            for node in nodes
            for kind in _kinds(node)
            if (kind.gpus > 0) == with_gpus
        )
        return max(kinds, key=lambda found: (*found[:2], kinds[found]))[2] if kinds else None

    gpu_kind, cpu_kind = most(profile.partition or default, True), most(profile.cpu_partition or default, False)
    for key, kind, stated in (("node", gpu_kind or cpu_kind, profile.node), ("cpu_node", cpu_kind, profile.cpu_node)):
        if kind is not None:
            diagnosis.see(f"{key}.cores", kind.cores)
            if kind.usable_cores != kind.cores or (stated is not None and stated.usable_cores is not None):
                diagnosis.see(f"{key}.usable_cores", kind.usable_cores)
            diagnosis.see(f"{key}.memory_gb", kind.memory_gb)
    if gpu_kind is not None:
        diagnosis.see("gpu.per_node", gpu_kind.gpus)
        diagnosis.see("gpu.cores", max(1, gpu_kind.usable_cores // gpu_kind.gpus))
        if wanted is not None or len({kind.gpu_type for node in nodes for kind in _kinds(node) if kind.gpus}) > 1:
            diagnosis.see("gpu.type", gpu_kind.gpu_type or None)
    elif profile.gpu is not None:
        diagnosis.values["gpu"] = None
        diagnosis.add(Verdict.DIFFERS, "gpu", "no node that you may see has GPUs")
    with_gpus = {name for node in nodes if next(_kinds(node)).gpus for name in _partitions_of(node)}
    for name in known:
        diagnosis.see(f"partitions.{name}.gpus", name in with_gpus)
    there = [name for name in known if name in with_gpus]
    if there and profile.partitions is None and profile.partition is None and default not in with_gpus:
        diagnosis.see("partition", there[0])
        diagnosis.see("cpu_partition", default)


def _partitions_of(node: Pairs) -> list[str]:
    return node.get("Partitions", "").split(",")


def _default(partitions: Mapping[str, Pairs]) -> str | None:
    return next((name for name, one in partitions.items() if one["Default"] == "YES"), None)


def _partitions(diagnosis: Diagnosis, partitions: Mapping[str, Pairs], known: Sequence[str]) -> None:
    for name in diagnosis.profile.partitions or ():
        if name not in known:
            diagnosis.add(Verdict.DIFFERS, f"partitions.{name}", f"there is none; there are {', '.join(partitions)}")
    if diagnosis.profile.partitions is None:
        diagnosis.values |= {f"partitions.{name}": {} for name in known}
        diagnosis.add(Verdict.FOUND, "partitions", ", ".join(known))
    for name in known:
        diagnosis.see(f"partitions.{name}.whole_node", partitions[name]["OverSubscribe"] == "EXCLUSIVE")
    if (default := _default(partitions)) is not None:
        message = f"{partitions[default]['DefaultTime']} in {default}, for jobs that ask for none; those made here do"
        diagnosis.add(Verdict.OK, "DefaultTime", message)


def _preemption(
    diagnosis: Diagnosis,
    configuration: Pairs,
    partitions: Mapping[str, Pairs],
    known: Sequence[str],
    nodes: Sequence[Pairs],
) -> None:
    how = configuration["PreemptType"]
    # The first one since 24.11, the second one before.
    parameters = [configuration.get(name, "") for name in ("PreemptParameters", "SlurmctldParameters")]
    if how == "preempt/none":
        diagnosis.add(Verdict.OK, "PreemptType", "jobs are not preempted")
    elif any("send_user_signal" in words for words in parameters):
        diagnosis.add(Verdict.OK, "send_user_signal", "a preempted job gets USR2, saves and goes back into the queue")
    else:
        message = "not set: a preempted job gets SIGTERM alone; it saves where the partition's GraceTime lets it"
        diagnosis.add(Verdict.WARNING, "send_user_signal", message)
    if how == "preempt/qos":
        message = "by QOS: `sacctmgr show qos format=name,preempt,gracetime` tells which may be"
        diagnosis.add(Verdict.UNKNOWN, "preemptible", message)
    for name in known if how == "preempt/partition_prio" else ():
        one, sharing = partitions[name], (_partitions_of(node) for node in nodes)
        rivals = {other for names in sharing if name in names for other in names if other in partitions}
        higher = any(int(partitions[other]["PriorityTier"]) > int(one["PriorityTier"]) for other in rivals)
        preemptible, grace_s = higher and one["PreemptMode"] != "OFF", int(one["GraceTime"])
        diagnosis.see(f"partitions.{name}.preemptible", preemptible)
        if preemptible and grace_s:
            diagnosis.see(f"partitions.{name}.grace_s", grace_s)
        elif preemptible:
            message = "GraceTime 0: a preempted job has no time to save; let it do so often"
            diagnosis.add(Verdict.WARNING, f"partitions.{name}.grace_s", message)


def _limits(diagnosis: Diagnosis, cluster: Pairs, partitions: Sequence[Pairs], known: Sequence[str]) -> None:
    """The site's where all partitions have the same, else each partition's."""
    profile = diagnosis.profile
    found = {one["PartitionName"]: limits(cluster, one, profile.account) for one in partitions}
    for field in (entry.name for entry in dataclasses.fields(LimitSettings)):
        values = {name: getattr(limits, field) for name, limits in found.items()}
        for name, value in values.items():
            stated, key = profile.limit(field, name)
            if value is None or (not known and field not in _OF_ANY_PARTITION):
                continue
            if stated != value and len(set(values.values())) > 1:
                key = f"partitions.{name}.limits.{field}"
            diagnosis.see(key, value)


def limits(cluster: Pairs, partition: Pairs, account: str | None = None) -> LimitSettings:
    """Return the tightest limits on the user's jobs in a partition; without an account, those of the default one."""
    enforced = {"limits", "safe", "all"}.intersection(cluster["AccountingStorageEnforce"].split(","))
    rules = list(_rules(partition, account)) if enforced else []
    return LimitSettings(
        submitted=least(count(submitted) for submitted, _, _ in rules),
        running=least(count(running) for _, running, _ in rules),
        array_index=int(cluster["MaxArraySize"]) - 1,
        nodes=count(partition["MaxNodes"]),
        longest_walltime_min=least(minutes(text) for text in (partition["MaxTime"], *(rule[2] for rule in rules))),
    )


def _rules(partition: Pairs, account: str | None) -> Iterator[list[str]]:
    """Yield (most jobs submitted, most running, longest time) of each of the user's associations and QOS."""
    qualities = {partition["QoS"], "normal"} - {"N/A"}
    limits = ("MaxSubmitJobs", "MaxJobs", "MaxWall")
    for default_account, own_account, own_partition, default_qos, *rule in _of_user(
        "DefaultAccount", "Account", "Partition", "DefaultQOS", *limits
    ):
        if own_account == (account or default_account) and own_partition in ("", partition["PartitionName"]):
            qualities.add(default_qos or "normal")
            yield rule
    form = ("where", f"name={','.join(sorted(qualities))}", "format=MaxSubmitJobsPerUser,MaxJobsPerUser,MaxWall")
    for line in ask("sacctmgr", "--noheader", "--parsable2", "show", "qos", *form).splitlines():
        yield line.split("|")
