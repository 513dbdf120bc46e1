"""Convert job settings to a request to the scheduler, or raise every violation of the site's profile."""

import math
import shlex
from collections.abc import Iterator, Set
from dataclasses import replace

from fgssl.errors import Problem, SettingsError
from fgssl.settings.validation import unknown
from hpc.cluster.schedulers import build_scheduler
from hpc.cluster.schedulers.scheduler import JobRequest
from hpc.cluster.site.job_settings import JobSettings, Origin, option_name
from hpc.cluster.site.profile import GpuSettings, Profile

# ----------------------------------------------------------------------------------- the request


def request(
    job: JobSettings, profile: Profile, on_gpus: bool, job_name: str, origin: Origin | None = None
) -> JobRequest:
    """Return a job's request.

    Raises `SettingsError` with every reason why the site would reject the job or never start it.
    """
    origin = origin or Origin()
    asked = _Asked(job, profile, on_gpus, origin)
    if problems := [*origin.faults, *asked.problems()]:
        raise SettingsError(problems)
    environment, gpu = profile.environment, asked.gpu or GpuSettings()
    python = environment.python or ("python" if environment.venv is not None else None)
    container = shlex.quote(environment.container or "")
    return JobRequest(
        job_name=job_name,
        walltime_min=job.walltime_min,
        nodes=job.nodes,
        tasks_per_node=asked.tasks,
        gpus_per_node=asked.gpus_held,
        gpu_type=gpu.type,
        gpu_option=gpu.option,
        gpu_counts=gpu.counts,
        cpus_per_task=asked.cores,
        memory_mb=asked.memory_mb,
        partition=asked.partition,
        account=asked.account,
        qos=job.qos,
        requeue=profile.requeue != "forbidden",
        signal_delay_s=profile.signal_delay_s,
        runs=job.runs_per_job,
        runs_per_gpu=job.runs_per_gpu,
        whole_node=asked.whole_node,
        cpu_bind=asked.cpu_bind,
        extra=job.options,
        modules=environment.modules,
        setup=environment.lines,
        python=python.replace("{container}", container) if python is not None else None,
    )


class _Asked:
    """Request of one job under one profile, and its problems."""

    def __init__(self, job: JobSettings, profile: Profile, on_gpus: bool, origin: Origin) -> None:
        self.job, self.profile, self.on_gpus, self.origin = job, profile, on_gpus, origin
        self.gpu, default = None, profile.cpu_partition or profile.partition
        if on_gpus:
            self.gpu, default = profile.gpu, profile.partition
        self.partition = job.partition or default
        self.account = job.account or profile.account
        there = profile.partition_settings(self.partition)
        self.whole_node = there is not None and there.whole_node
        self.node = profile.kind_of_node(self.partition, on_gpus)
        self.packed = job.runs_per_job > 1
        self.tasks = job.runs_per_job if self.packed else job.processes_per_node
        share = self.gpu.cores if self.gpu is not None else None
        self.cores = job.cores_per_process or max(1, (share or 1) // job.runs_per_gpu)
        self.gpus = math.ceil(self.tasks / job.runs_per_gpu) if on_gpus else 0
        whole = self.gpu.per_node if self.gpu is not None and self.whole_node else None
        self.gpus_held = whole or self.gpus

    @property
    def memory_mb(self) -> int | None:
        if self.job.memory_gb_per_node is not None:
            return max(1, int(1024 * self.job.memory_gb_per_node))
        if self.profile.memory_request != "share" or self.node is None or self.node.memory_gb is None:
            return None
        if self.whole_node:
            return 0
        if self.gpu is not None and self.gpu.per_node is not None:
            return int(1024 * self.node.memory_gb * self.gpus / self.gpu.per_node)
        if self.node.job_cores is not None:
            return int(1024 * self.node.memory_gb * self.tasks * self.cores / self.node.job_cores)
        return None

    @property
    def cpu_bind(self) -> str | None:
        fills_node = self.whole_node and self.on_gpus and self.tasks == self.gpus == self.gpus_held
        whole = self.profile.whole_node_cpu_bind if fills_node and self.job.cores_per_process is None else None
        return whole or self.profile.cpu_bind

    # ----------------------------------------------------------------------------------------- problems

    def problems(self) -> Iterator[Problem]:
        yield from self._partition_problems()
        yield from self._account_problems()
        yield from self._packing_problems()
        yield from self._gpu_problems()
        yield from self._core_problems()
        yield from self._memory_problems()
        yield from self._limit_problems()
        yield from self._option_problems()
        environment = self.profile.environment
        if environment.container is not None and "{container}" not in (environment.python or ""):
            message = (
                "jobs would run outside of it, since environment.python does not use {container}: set it too, e.g. "
                "cluster.environment.python='apptainer exec --nv {container} python3'"
            )
            yield Problem(self.profile.file, "environment.container", message)
        if environment.container is None and "{container}" in (environment.python or ""):
            message = "must be set, since environment.python uses it: give cluster.environment.container=IMAGE"
            yield Problem(self.profile.file, "environment.container", message)

    def _problem(self, key: str, message: str, cited: str | None = None, advice: str | None = None) -> Problem:
        """Return a problem at a key of the job; `cited` is the key of the profile that it violates."""
        where = f" ({self.profile.cite(cited)})" if cited is not None else ""
        return self.origin.problem(key, message + where + (f": {advice}" if advice is not None else ""))

    def _partition_problems(self) -> Iterator[Problem]:
        """Check the job's partition; `read_profile` has checked the profile's own."""
        name, known = self.partition, self.profile.partitions
        if name is None or known is None or (name not in known and self.job.partition is None):
            return
        if not known:
            yield self._problem(
                "partition", f"{name!r} is not allowed: leave it empty, since the site chooses", "partitions"
            )
        elif name not in known:
            yield self._problem("partition", unknown(name, list(known), what="partition"), "partitions")
        elif self.on_gpus and not known[name].gpus:
            others = ", ".join(other for other, there in known.items() if there.gpus)
            message = f"{name!r} has no GPUs, which this job uses"
            yield self._problem("partition", message, f"partitions.{name}.gpus", f"choose one with GPUs: {others}")

    def _account_problems(self) -> Iterator[Problem]:
        """Check the job's account; `read_profile` has checked the profile's own."""
        profile, wanted = self.profile, self.profile.accounts
        if self.account is None and wanted.required:
            how = f"give cluster.account={wanted.example} on the command line, or set account in a copy of this file"
            yield Problem(profile.file, "account", f"is missing, but {profile.name} requires one: {how}")
        elif self.job.account is not None and not wanted.fits(self.job.account):
            message = f"{self.job.account!r} is not allowed: accounts are like {wanted.example}"
            yield self._problem("account", message, "accounts.pattern")

    def _packing_problems(self) -> Iterator[Problem]:
        job = self.job
        if self.packed:
            for key, number in (("nodes", job.nodes), ("processes_per_node", job.processes_per_node)):
                if number > 1:
                    message = (
                        f"{number} must be 1 with runs_per_job {job.runs_per_job}, since packed runs have one process"
                    )
                    yield self._problem(key, message)
        if job.runs_per_gpu > 1 and not (self.packed and self.on_gpus):
            message = f"{job.runs_per_gpu} must be 1, unless runs_per_job is larger than 1 and the runs use GPUs"
            yield self._problem("runs_per_gpu", message)

    def _gpu_problems(self) -> Iterator[Problem]:
        key, gpu = "runs_per_job" if self.packed else "processes_per_node", self.gpu
        if not self.on_gpus:
            if self.node is None:
                message = "the runs use no GPUs (resources.device: cpu), but jobs without GPUs are not accepted"
                yield self._problem(key, message, "cpu_node")
            return
        if gpu is None:
            yield self._problem(key, "the runs use GPUs, but there are none", "gpu", "set resources.device=cpu")
            return
        needs = f"{self.tasks} {'runs' if self.packed else 'processes'} need {self.gpus} GPUs on a node"
        if gpu.per_node is not None and self.gpus > gpu.per_node:
            advice = "share GPUs (runs_per_gpu), or pack fewer runs" if self.packed else "use more nodes"
            yield self._problem(key, f"{needs}, but it has {gpu.per_node}", "gpu.per_node", advice)
        elif gpu.counts and self.gpus_held not in gpu.counts:
            allowed = " or ".join(map(str, gpu.counts))
            yield self._problem(key, f"{needs}, but must be {allowed}", "gpu.counts")
        elif self.profile.several_nodes_whole and self.job.nodes > 1 and self.gpus_held != gpu.per_node:
            message = f"{needs}, but multi-node jobs must use all {gpu.per_node}"
            yield self._problem(key, message, "several_nodes_whole")

    def _core_problems(self) -> Iterator[Problem]:
        """Check the cores of the tasks that fit on a node's GPUs; more tasks than that are another problem."""
        gpu, there, tasks = self.gpu, self.node.job_cores if self.node is not None else None, self.tasks
        if gpu is not None and gpu.per_node is not None:
            tasks = min(tasks, gpu.per_node * self.job.runs_per_gpu)
        cores = tasks * self.cores
        if self.node is None or there is None or cores <= there:
            return
        all_cores = f" of its {self.node.cores}" if self.node.usable_cores is not None else ""
        message = f"{tasks} x {self.cores} cores on a node are {cores}, but jobs can use {there}{all_cores}"
        cited = f"{self._node_key}.{'usable_cores' if self.node.usable_cores is not None else 'cores'}"
        if tasks <= there:
            yield self._problem("cores_per_process", message, cited, f"must be at most {there // tasks}")
        else:
            key = "runs_per_job" if self.packed else "processes_per_node"
            yield self._problem(key, message, cited, f"must be at most {there}")

    def _memory_problems(self) -> Iterator[Problem]:
        wanted, key = self.job.memory_gb_per_node, "memory_gb_per_node"
        if wanted is None or self.node is None:
            return
        if self.profile.memory_request == "never":
            message = f"{wanted:g} would be ignored, since jobs are allocated their share of the node"
            yield self._problem(key, message, "memory_request", "leave it empty")
        elif self.node.memory_gb is not None and wanted > self.node.memory_gb:
            message = f"{wanted:g} must not exceed the {self.node.memory_gb:g} GB of a node"
            yield self._problem(key, message, f"{self._node_key}.memory_gb")

    @property
    def _node_key(self) -> str:
        return "node" if self.node is self.profile.node else "cpu_node"

    def _limit_problems(self) -> Iterator[Problem]:
        walltime, nodes = self.job.walltime_min, self.job.nodes
        most, cited = self.profile.limit("nodes", self.partition)
        if most is not None and nodes > most:
            yield self._problem("nodes", f"{nodes} must not exceed {most} for one job", cited)
        longest, cited = self.profile.limit("longest_walltime_min", self.partition)
        if longest is not None and walltime > longest:
            advice = "a longer run continues in further jobs automatically"
            yield self._problem("walltime_min", f"{walltime} must not exceed {longest} for one job", cited, advice)
        shortest, cited = self.profile.limit("shortest_walltime_min", self.partition)
        if shortest is not None and walltime < shortest:
            advice = f"pack short runs (runs_per_job), or set cluster.{cited}={walltime} if the site allows it"
            yield self._problem("walltime_min", f"{walltime} must be at least {shortest} for one job", cited, advice)
        if walltime * 60 <= self.profile.signal_delay_s:
            message = (
                f"{walltime} min leave no time for work, since jobs stop {self.profile.signal_delay_s} s before the end"
            )
            yield self._problem("walltime_min", message, "signal_delay_s")

    def _option_problems(self) -> Iterator[Problem]:
        taken = build_scheduler(self.profile.scheduler).reserved_options | (
            {"gres"} if self.gpu is not None and self.gpu.option == "gres" else set()
        )
        for name, value in self.job.options.items():
            # Schedulers take the beginning of an option for the whole: `job-nam` would rename the job.
            if meant := [option for option in sorted(taken) if option.startswith(option_name(name))]:
                whole = "" if option_name(name) in meant else f"stands for {meant[0].replace('_', '-')}, which "
                yield self._problem("options", f"{name!r} {whole}is set from other keys: remove it here")
            elif value is False:
                yield self._problem("options", f"{name!r}: false is not allowed: remove the option")


def for_runs(asked: JobRequest, runs: int) -> JobRequest:
    """Return the request of a job that packs `runs` runs, from the request of a full pack."""
    if not 0 < runs < asked.runs:
        return asked
    fewer = replace(asked, tasks_per_node=runs)
    if not asked.whole_node and asked.memory_mb is not None:
        fewer = replace(fewer, memory_mb=asked.memory_mb * runs // asked.runs)
    if not asked.gpus_per_node or asked.whole_node:
        return fewer
    needed = math.ceil(runs / asked.runs_per_gpu)
    gpus = min((count for count in asked.gpu_counts if count >= needed), default=needed)
    return replace(fewer, gpus_per_node=gpus)


# -------------------------------------------------------------------------------------------- description


def described(asked: JobRequest, given: Set[str]) -> str:
    """Return e.g. `2 nodes x 4 tasks, 4 GPUs and 48 cores per node, 600 min (default)`.

    Values of keys outside of `given`, which the sweep does not set, are marked as default.
    """

    def by_default(*keys: str) -> str:
        return "" if given & {*keys} else " (default)"

    tasks = f"{asked.tasks_per_node} {'run' if asked.runs > 1 else 'task'}{'s' if asked.tasks_per_node > 1 else ''}"
    nodes = f"{asked.nodes} node{'s' if asked.nodes > 1 else ''}"
    gpus = f"{asked.gpus_per_node} GPU{'s' if asked.gpus_per_node > 1 else ''} and " if asked.gpus_per_node else ""
    cores = asked.tasks_per_node * asked.cpus_per_task
    partition = f"partition {asked.partition}" if asked.partition is not None else "the site's partition"
    parts = [
        f"{nodes} x {tasks}{by_default('nodes', 'processes_per_node', 'runs_per_job')}",
        f"{gpus}{cores} core{'s' if cores > 1 else ''} per node",
        f"{asked.walltime_min} min{by_default('walltime_min')}",
        f"{partition}{by_default('partition')}",
        *([f"account {asked.account}"] if asked.account is not None else []),
        *([f"QOS {asked.qos}"] if asked.qos is not None else []),
    ]
    return ", ".join(parts)
