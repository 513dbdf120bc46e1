"""Compare a site's profile with the reports of Slurm's commands on a login node."""

import dataclasses
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fgssl.errors import UserError
from hpc.cluster.doctor.diagnosis import Diagnosis, Verdict
from hpc.cluster.schedulers.slurm.commands import ask, configuration
from hpc.cluster.schedulers.slurm.environment import user_name
from hpc.cluster.schedulers.slurm.facts import count, least, minutes, pairs
from hpc.cluster.site.profile import LimitSettings

Pairs = Mapping[str, str]
"""Attributes of a partition, a node or the cluster, by Slurm's names."""
_OLDEST = (22, 5)
"""Oldest version of Slurm with which fgssl was tested."""
_COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sacctmgr")
_OF_ANY_PARTITION = ("array_index", "submitted", "running")
"""Limits of the cluster and the user, which also apply to jobs that name no partition."""


def examine(diagnosis: Diagnosis) -> None:
    """Add findings to the diagnosis, also on queries of the accounting database that fail.

    Raises `UserError` if there is no Slurm or its controller does not answer.
    """
    cluster = configuration()
    _commands(diagnosis)
    _configuration(diagnosis, cluster)
    _shell(diagnosis)
    nodes, partitions = shown("node"), {one["PartitionName"]: one for one in shown("partition")}
    if not partitions:
        raise UserError("`scontrol show partition` lists no partition: ask the site's support which ones you can use")
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
        except UserError as error:  # the database does not answer, or there is none
            diagnosis.add(Verdict.UNKNOWN, section, str(error))


def shown(what: str) -> list[Pairs]:
    """Return the attributes (NodeName, Gres, MaxTime, ...) of each node or partition that is visible to this user."""
    return [pairs(line) for line in ask("scontrol", "--oneliner", "show", what).splitlines()]


def _of_user(*fields: str) -> list[list[str]]:
    """Return fields of each of the user's associations."""
    form = ("show", "user", user_name(), "withassoc", f"format={','.join(fields)}")
    return [line.split("|") for line in ask("sacctmgr", "--noheader", "--parsable2", *form).splitlines()]


def _commands(diagnosis: Diagnosis) -> None:
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if missing:
        advice = "sweeps require them; if only sacct is missing, the ends of jobs are known for some minutes"
        diagnosis.add(Verdict.WARNING, "commands", f"not on PATH: {', '.join(missing)}: {advice}")
    else:
        diagnosis.add(Verdict.OK, "commands", f"{', '.join(_COMMANDS)} are on PATH")


def _configuration(diagnosis: Diagnosis, configuration: Pairs) -> None:
    version = configuration["SLURM_VERSION"]
    diagnosis.source = f"Slurm {version} of {configuration['ClusterName']}"
    new_enough = tuple(map(int, re.findall(r"\d+", version)[:2])) >= _OLDEST
    advice = "" if new_enough else ": older than 22.05, the oldest version that was tested"
    diagnosis.add(Verdict.OK if new_enough else Verdict.WARNING, "Slurm", version + advice)
    if configuration["JobRequeue"] == "1":
        diagnosis.add(Verdict.OK, "JobRequeue", "1: jobs can be requeued")
    else:
        diagnosis.add(
            Verdict.WARNING, "JobRequeue", "0: jobs must set --requeue, as those of fgssl do; the self-test checks it"
        )
    diagnosis.add(Verdict.OK, "KillWait", f"{configuration['KillWait']} between SIGTERM and SIGKILL at the time limit")


def _shell(diagnosis: Diagnosis) -> None:
    names = sorted(name for name in os.environ if name.startswith(("SBATCH_", "SLURM_")) and name != "SLURM_CONF")
    if "SLURM_JOB_ID" in names:
        message = f"this shell is part of job {os.environ['SLURM_JOB_ID']}: run this on a login node"
        diagnosis.add(Verdict.WARNING, "shell", message)
    elif names:
        set_here = ", ".join(f"{name}={os.environ[name]}" for name in names)
        advice = "jobs of sweeps ignore them (use the profile instead), but slurm/*.sbatch do not: unset them"
        diagnosis.add(Verdict.WARNING, "shell", f"{set_here}: {advice}")
    else:
        diagnosis.add(Verdict.OK, "shell", "no SBATCH_* or SLURM_* variables, which would change the requests of jobs")


def _accounts(diagnosis: Diagnosis) -> None:
    accounts: dict[str, dict[str, None]] = {}  # account to its QOS
    for name, qualities in _of_user("Account", "QOS"):
        accounts.setdefault(name, {}).update(dict.fromkeys(filter(None, qualities.split(","))))
    account, wanted = diagnosis.profile.account, diagnosis.profile.accounts
    known = "; ".join(f"{name} (QOS {', '.join(qos) or 'by default'})" for name, qos in accounts.items()) or "none"
    if account is not None and account not in accounts:
        diagnosis.add(Verdict.DIFFERS, "account", f"{account} is not one of your accounts: {known}")
    elif account is not None or len(accounts) == 1:
        diagnosis.see("account", account or next(iter(accounts)))
    else:
        verdict = Verdict.WARNING if wanted.required else Verdict.OK
        diagnosis.add(verdict, "account", f"yours are {known}: choose one with cluster.account=NAME")
    if strange := [name for name in accounts if not wanted.fits(name)]:
        diagnosis.add(Verdict.WARNING, "accounts.pattern", f"{wanted.pattern} does not match {', '.join(strange)}")


@dataclass(frozen=True)
class _Kind:
    """Kind of node."""

    cores: int
    usable_cores: int
    memory_gb: float
    gpu_type: str = ""
    gpus: int = 0


def _kinds(node: Pairs) -> Iterator[_Kind]:
    """Yield the kind of a node, once for each type of its GPUs."""
    cores = int(node["Sockets"]) * int(node["CoresPerSocket"])
    threads = max(1, int(node["CPUTot"]) // cores)  # CPUs of a core, as Slurm counts them
    usable = int(node.get("CPUEfctv", node["CPUTot"])) // threads
    memory_mb = int(node["RealMemory"]) - int(node.get("MemSpecLimit", 0))
    gpus = re.findall(r"\bgpu:(?:([^:(,]+):)?(\d+)", node["Gres"])
    for gpu_type, number in gpus or [("", "0")]:
        yield _Kind(cores, usable, memory_mb * 10 // 1024 / 10, gpu_type, int(number))


def _nodes(diagnosis: Diagnosis, nodes: Sequence[Pairs], default: str | None, known: Sequence[str]) -> None:
    """Add findings on the most frequent kinds of nodes, with and without GPUs, in the profile's partitions."""
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
        diagnosis.add(Verdict.DIFFERS, "gpu", "no node that is visible to you has GPUs")
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
            diagnosis.add(
                Verdict.DIFFERS, f"partitions.{name}", f"no such partition; the partitions are {', '.join(partitions)}"
            )
    if diagnosis.profile.partitions is None:
        diagnosis.values |= {f"partitions.{name}": {} for name in known}
        diagnosis.add(Verdict.FOUND, "partitions", ", ".join(known))
    for name in known:
        diagnosis.see(f"partitions.{name}.whole_node", partitions[name]["OverSubscribe"] == "EXCLUSIVE")
    if (default := _default(partitions)) is not None:
        message = (
            f"{partitions[default]['DefaultTime']} in {default}, for jobs without a time limit; those of fgssl have one"
        )
        diagnosis.add(Verdict.OK, "DefaultTime", message)


def _preemption(
    diagnosis: Diagnosis,
    configuration: Pairs,
    partitions: Mapping[str, Pairs],
    known: Sequence[str],
    nodes: Sequence[Pairs],
) -> None:
    how = configuration["PreemptType"]
    # Slurm has the option in the first one since 24.11, and in the second one before.
    parameters = [configuration.get(name, "") for name in ("PreemptParameters", "SlurmctldParameters")]
    if how == "preempt/none":
        diagnosis.add(Verdict.OK, "PreemptType", "jobs are not preempted")
    elif any("send_user_signal" in words for words in parameters):
        diagnosis.add(Verdict.OK, "send_user_signal", "preempted jobs receive USR2, save and are requeued")
    else:
        message = "not set: preempted jobs receive only SIGTERM, and save if the partition's GraceTime is long enough"
        diagnosis.add(Verdict.WARNING, "send_user_signal", message)
    if how == "preempt/qos":
        message = "by QOS: `sacctmgr show qos format=name,preempt,gracetime` lists which can be preempted"
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
            message = "GraceTime 0: preempted jobs have no time to save; lower resources.checkpoint_every_s"
            diagnosis.add(Verdict.WARNING, f"partitions.{name}.grace_s", message)


def _limits(diagnosis: Diagnosis, cluster: Pairs, partitions: Sequence[Pairs], known: Sequence[str]) -> None:
    """Add findings on limits: for the site if all partitions have the same limit, otherwise for each partition."""
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
    """Return the strictest limits on the user's jobs in a partition, for an account or the default one."""
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
    """Yield (MaxSubmitJobs, MaxJobs, MaxWall) of each of the user's associations and QOS."""
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
