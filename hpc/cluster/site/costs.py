"""Forecast of the cost of jobs in the site's unit, and of their fit into its quotas, before submission."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgssl.errors import Problem
from hpc.cluster.actions import PlannedOrder
from hpc.cluster.schedulers.scheduler import JobRequest
from hpc.cluster.site.profile import BillingSettings, Profile
from hpc.cluster.site.requests import for_runs
from hpc.sweeps.estimate import kind_of, mean_wall_s
from hpc.sweeps.plan import SweepPlan
from hpc.sweeps.state import run_folder

_TERABYTE = 10**12
_ON_TOP = "in addition to files that are there already"


@dataclass(frozen=True)
class Work:
    """Jobs with the same request and duration."""

    request: JobRequest
    jobs: int
    runs: int
    minutes: float | None
    """Total duration of one job over all its requeues, or None if it is unknown."""
    files_per_run: int = 0
    bytes_per_run: int = 0


def work_of(orders: Iterable[PlannedOrder], plan: SweepPlan, out: Path) -> list[Work]:
    """Return orders with the duration and disk usage of finished runs of the same method and length, if any."""
    runs = {run.run: run for run in plan.runs}
    done = [run for run in plan.runs if run_folder(run, out).done(run.config)]
    means = mean_wall_s(done, out)
    sizes = {kind_of(run): _files_and_bytes(run_folder(run, out).path) for run in done}
    work = []
    for order in orders:
        kind = kind_of(runs[order.elements[0].runs[0]])
        files, size = sizes.get(kind, (0, 0))
        work.append(
            Work(
                request=for_runs(order.request, max(len(element.runs) for element in order.elements)),
                jobs=len(order.elements),
                runs=sum(len(element.runs) for element in order.elements),
                minutes=means[kind] / 60 if kind in means else None,
                files_per_run=files,
                bytes_per_run=size,
            )
        )
    return work


def _files_and_bytes(folder: Path) -> tuple[int, int]:
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)


@dataclass(frozen=True)
class Forecast:
    """Problems of planned work, and notes to users."""

    problems: tuple[Problem, ...]
    """Violations of the site's quotas; `request` checks the limits on single jobs."""
    notes: tuple[str, ...]


def forecast(work: Sequence[Work], profile: Profile) -> Forecast:
    """Return the forecast, which does not count files that are on the site's disks already."""
    files = sum(item.runs * item.files_per_run for item in work)
    size = sum(item.runs * item.bytes_per_run for item in work)
    notes = (
        f"{sum(item.runs for item in work):,} runs in {_jobs(work):,} jobs on {profile.site}",
        *_cost_notes(work, profile),
        *_queue_notes(work, profile),
        *dict.fromkeys(note for item in work for note in _idle_gpus(item.request)),
        *_storage_notes(files, size, profile),
        *([f"unverified in {profile.file}: {', '.join(profile.unverified)}"] if profile.unverified else []),
    )
    return Forecast(tuple(_problems(files, size, profile)), notes)


def submissions(item: Work) -> int:
    """Return the number of times each job starts, since it works until `signal_delay_s` before its time limit."""
    if item.minutes is None:
        return 1
    return max(1, math.ceil(item.minutes / (item.request.walltime_min - item.request.signal_delay_s / 60)))


def hourly_cost(request: JobRequest, profile: Profile) -> tuple[float, str] | None:
    """Return a job's cost per hour and the unit, or None if the profile has no billing for its nodes."""
    node = profile.kind_of_node(request.partition, request.gpus_per_node > 0)
    if node is None or node.billing is None:
        return None
    partition = profile.partition_settings(request.partition)
    if partition is not None and partition.free:
        return 0.0, node.billing.unit
    cores: float = request.tasks_per_node * request.cpus_per_task
    memory = (request.memory_mb or 0) / 1024  # a site's default memory is not counted
    if request.whole_node:
        cores, memory = node.job_cores or cores, node.memory_gb or memory
    elif request.memory_mb == 0:
        memory = node.memory_gb or 0.0
    gpus = request.gpus_per_node
    return _price(node.billing, request.nodes * gpus, request.nodes * cores, request.nodes * memory), node.billing.unit


def _price(billing: BillingSettings, gpus: float, cores: float, memory_gb: float) -> float:
    pairs = ((gpus, billing.gpus), (cores, billing.cores), (memory_gb, billing.memory_gb))
    counts = [held / amount for held, amount in pairs if amount is not None]
    return billing.rate * max(math.ceil(count) if billing.rounded_up else count for count in counts)


# ------------------------------------------------------------------------------------ problems and notes


def _problems(files: int, size: int, profile: Profile) -> Iterator[Problem]:
    storage = profile.storage
    if storage.files is not None and files > storage.files:
        message = f"{files:,} files of these runs exceed the {storage.files:,} allowed, {_ON_TOP}"
        yield Problem(
            profile.file, "storage.files", f"{message}: submit fewer runs at a time, or request a larger quota"
        )
    if storage.terabytes is not None and size > storage.terabytes * _TERABYTE:
        message = f"{_tb(size)} of these runs exceed the {storage.terabytes:g} TB allowed, {_ON_TOP}"
        advice = "submit fewer runs at a time, lower resources.keep_checkpoints, or request a larger quota"
        yield Problem(profile.file, "storage.terabytes", f"{message}: {advice}")


def _storage_notes(files: int, size: int, profile: Profile) -> Iterator[str]:
    storage = profile.storage
    if files or size:
        of_files = f" of {storage.files:,} allowed" if storage.files is not None else ""
        of_size = f" of {storage.terabytes:g} allowed" if storage.terabytes is not None else ""
        yield f"to be written: {files:,} files{of_files}, {_tb(size)}{of_size}; {_ON_TOP}"
    if storage.purge_days is not None:
        yield f"files on {storage.scratch or 'scratch'} are purged after {storage.purge_days} days without access"
    if storage.read_only:
        yield f"jobs cannot write to {' and '.join(storage.read_only)}: the sweep's folder must be elsewhere"


def _cost_notes(work: Sequence[Work], profile: Profile) -> Iterator[str]:
    costs, of_unknown, uncharged = defaultdict[str, float](float), defaultdict[str, float](float), 0  # by unit
    for item in work:
        if (hourly := hourly_cost(item.request, profile)) is None:
            uncharged += item.jobs
        elif item.minutes is not None:
            costs[hourly[1]] += hourly[0] * item.minutes / 60 * item.jobs
        else:
            of_unknown[hourly[1]] += hourly[0] * item.request.walltime_min / 60 * item.jobs
    for unit, amount in costs.items():
        yield f"cost: {amount:,.1f} {unit}"
    unknown = _jobs(item for item in work if item.minutes is None)
    for unit, amount in of_unknown.items():
        yield f"the duration of {unknown:,} jobs is unknown: {amount:,.1f} {unit} for one walltime of each"
    if uncharged:
        yield f"the cost of {uncharged:,} jobs is unknown: {profile.file} has no billing for their nodes"


def _queue_notes(work: Sequence[Work], profile: Profile) -> Iterator[str]:
    if requeues := sum(item.jobs * (submissions(item) - 1) for item in work):
        how = "submitted again" if profile.requeue == "forbidden" else "requeued"
        yield f"{requeues:,} times a job will be {how}, since it needs more than its walltime"
    waiting = False
    for partition in dict.fromkeys(item.request.partition for item in work):
        jobs = _jobs(item for item in work if item.request.partition == partition)
        submitted, key = profile.limit("submitted", partition)
        if submitted is not None and jobs > submitted:
            waiting = True
            yield f"{jobs:,} jobs are submitted gradually, {submitted:,} at once ({profile.cite(key)})"
    by_hand = waiting or (requeues > 0 and profile.requeue == "forbidden")
    if by_hand and profile.submit_from_jobs == "forbidden":
        yield "jobs may not submit jobs there: run `fgssl sync` from time to time until all are submitted"


def _jobs(work: Iterable[Work]) -> int:
    return sum(item.jobs for item in work)


def _idle_gpus(request: JobRequest) -> Iterator[str]:
    """Yield a note if the job leaves GPUs of a whole node idle."""
    used, held = math.ceil(request.tasks_per_node / request.runs_per_gpu), request.gpus_per_node
    if used < held:
        where = f"partition {request.partition} allocates and charges whole nodes"
        share = f"set runs_per_job={held * request.runs_per_gpu}, or choose another partition"
        yield f"{where}, but only {used} of {held} GPUs would be used: {share}"


def _tb(size_bytes: int) -> str:
    return f"{size_bytes / _TERABYTE:.3g} TB"
