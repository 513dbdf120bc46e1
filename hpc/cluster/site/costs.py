"""What jobs will cost, in the site's unit, and whether they fit its limits and quotas: before any is submitted."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fgssl.errors import Problem
from hpc.cluster.schedulers.scheduler import JobRequest
from hpc.cluster.site.profile import BillingSettings, Profile

_TERABYTE = 10**12
_ON_TOP = "and what lies there already comes on top"


@dataclass(frozen=True)
class Work:
    """Jobs that are alike."""

    request: JobRequest
    jobs: int
    runs: int
    minutes: float | None
    """That one needs in all, over as many submissions as it takes; None: not known."""
    files_per_run: int = 0
    bytes_per_run: int = 0


@dataclass(frozen=True)
class Forecast:
    """What a list of work comes to."""

    jobs: int
    runs: int
    costs: dict[str, float]
    """Unit -> amount, of the jobs whose time is known."""
    most_of_unknown: dict[str, float]
    """Unit -> amount, if each of the other jobs used up its walltime once."""
    unknown_jobs: int
    """Whose time is not known."""
    uncharged_jobs: int
    """Whose price the profile does not say."""
    requeues: int
    """Further submissions of jobs that need longer than their walltime."""
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    """Why it cannot be done; the profile's limits on single jobs have been seen to by `request`."""
    notes: tuple[str, ...]
    """What people should know before they say yes."""


def forecast(work: Sequence[Work], profile: Profile) -> Forecast:
    """What lies on the site's disks already is not known, and not counted."""
    costs: dict[str, float] = {}
    most: dict[str, float] = {}
    uncharged = 0
    for item in work:
        hourly = hourly_cost(item.request, profile)
        if hourly is None:
            uncharged += item.jobs
            continue
        amount, unit = hourly
        into, minutes = (costs, item.minutes) if item.minutes is not None else (most, item.request.walltime_min)
        into[unit] = into.get(unit, 0.0) + amount * minutes / 60 * item.jobs
    made = Forecast(
        jobs=sum(item.jobs for item in work),
        runs=sum(item.runs for item in work),
        costs=costs,
        most_of_unknown=most,
        unknown_jobs=sum(item.jobs for item in work if item.minutes is None),
        uncharged_jobs=uncharged,
        requeues=sum(item.jobs * (submissions(item) - 1) for item in work),
        files=sum(item.runs * item.files_per_run for item in work),
        bytes=sum(item.runs * item.bytes_per_run for item in work),
        problems=(),
        notes=(),
    )
    problems = tuple(_problems(made, profile))
    return dataclasses.replace(made, problems=problems, notes=tuple(_notes(made, work, profile)))


def submissions(item: Work) -> int:
    """How often each of the jobs is submitted: it stops for good `signal_delay_s` before its walltime is over."""
    if item.minutes is None:
        return 1
    return max(1, math.ceil(item.minutes / (item.request.walltime_min - item.request.signal_delay_s / 60)))


def hourly_cost(request: JobRequest, profile: Profile) -> tuple[float, str] | None:
    """What an hour of a job costs, and the unit; None where the profile does not say."""
    node = profile.kind_of_node(request.partition, request.gpus_per_node > 0)
    if node is None or node.billing is None:
        return None
    partition = profile.partition_settings(request.partition)
    if partition is not None and partition.free:
        return 0.0, node.billing.unit
    cores: float = request.tasks_per_node * request.cpus_per_task
    memory = (request.memory_mb or 0) / 1024  # what the site gives by itself is not counted
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


# ---------------------------------------------------------------------------------------- what it means


def _problems(made: Forecast, profile: Profile) -> Iterator[Problem]:
    storage = profile.storage
    if storage.files is not None and made.files > storage.files:
        message = f"{made.files:,} files of these runs are over {storage.files:,}, {_ON_TOP}"
        yield Problem(profile.file, "storage.files", f"{message}: fewer runs at a time, or ask the site for more")
    if storage.terabytes is not None and made.bytes > storage.terabytes * _TERABYTE:
        message = f"{_tb(made.bytes)} of these runs are over {storage.terabytes:g} TB, {_ON_TOP}"
        advice = "fewer runs at a time, fewer checkpoints (resources.keep_checkpoints), or ask the site for more"
        yield Problem(profile.file, "storage.terabytes", f"{message}: {advice}")


def _notes(made: Forecast, work: Sequence[Work], profile: Profile) -> Iterator[str]:
    yield f"{made.runs:,} runs in {made.jobs:,} jobs on {profile.site}"
    yield from _cost_notes(made, profile)
    yield from _queue_notes(made, work, profile)
    yield from dict.fromkeys(note for item in work for note in _idle_gpus(item.request))
    storage = profile.storage
    if made.files or made.bytes:
        files = f"{made.files:,} files" + (f" of {storage.files:,} allowed" if storage.files is not None else "")
        size = _tb(made.bytes) + (f" of {storage.terabytes:g} allowed" if storage.terabytes is not None else "")
        yield f"to be written: {files}, {size}; {_ON_TOP}"
    if storage.purge_days is not None:
        yield f"{storage.scratch or 'scratch'} loses files that nobody touched for {storage.purge_days} days"
    if storage.read_only:
        yield f"jobs cannot write to {' and '.join(storage.read_only)}: the sweep's folder must lie elsewhere"
    if profile.unverified:
        yield f"nobody has verified in {profile.file}: {', '.join(profile.unverified)}"


def _cost_notes(made: Forecast, profile: Profile) -> Iterator[str]:
    for unit, amount in made.costs.items():
        yield f"cost: {amount:,.1f} {unit}"
    for unit, amount in made.most_of_unknown.items():
        per_walltime = f"{amount:,.1f} {unit} for one walltime of each"
        yield f"how long {made.unknown_jobs:,} jobs take is not known: {per_walltime}"
    if made.uncharged_jobs:
        yield f"what {made.uncharged_jobs:,} jobs cost is not known: {profile.file} has no billing for their nodes"


def _queue_notes(made: Forecast, work: Sequence[Work], profile: Profile) -> Iterator[str]:
    if made.requeues:
        how = "submitted again" if profile.requeue == "forbidden" else "requeued"
        yield f"{made.requeues:,} times a job will be {how}, for it needs longer than its walltime"
    jobs: dict[str | None, int] = {}
    for item in work:
        jobs[item.request.partition] = jobs.get(item.request.partition, 0) + item.jobs
    waiting = False
    for partition, number in jobs.items():
        submitted, key = profile.limit("submitted", partition)
        if submitted is not None and number > submitted:
            waiting = True
            yield f"{number:,} jobs are fed in, for {submitted:,} may be submitted at once ({profile.cite(key)})"
    by_hand = waiting or (made.requeues > 0 and profile.requeue == "forbidden")
    if by_hand and profile.submit_from_jobs == "forbidden":
        yield "jobs may not submit jobs there: run `fgssl sync` now and then until all are in"


def _idle_gpus(request: JobRequest) -> Iterator[str]:
    """Of a whole node whose GPUs are not all used."""
    used, held = math.ceil(request.tasks_per_node / request.runs_per_gpu), request.gpus_per_node
    if used < held:
        where = f"partition {request.partition} gives and charges whole nodes"
        share = f"share them with runs_per_job={held * request.runs_per_gpu}, or take another partition"
        yield f"{where}, and {used} of {held} GPUs would be used: {share}"


def _tb(size_bytes: int) -> str:
    return f"{size_bytes / _TERABYTE:.3g} TB"
