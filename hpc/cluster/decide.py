"""Decide on the actions of a pass: pure functions of an observation.

A pass first decides on repairs of records and jobs that earlier passes left inconsistent. Then it decides on a keeper,
since orders may fill the queue; on orders, again after each one that was rejected; and on the keeper's dependencies.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from hpc.cluster import actions
from hpc.cluster.actions import PlannedOrder, Progress
from hpc.cluster.cluster_sweep import ClusterSweep
from hpc.cluster.job_store import Element, Order
from hpc.cluster.keeper import PLACES
from hpc.cluster.observation import KeeperStatus, Observation
from hpc.cluster.schedulers.scheduler import JobState
from hpc.cluster.site.profile import LimitSettings
from hpc.cluster.status import ClusterState, RunStatus

_INTENT_AGE_S = 600.0
"""Age up to which an order without a recorded job id may still be on its way to the scheduler."""
_BAD_NODE = 2
"""Number of lost jobs after which a node is excluded."""
_MOST_EXCLUDED = 10
"""Largest number of nodes to exclude; if more lose jobs, the nodes are not the cause."""
_MOST_WAITED_FOR = 50
"""Largest number of jobs in a keeper's dependency; any of them starts it."""


# ----------------------------------------------------------------------------------------------- repairs


def decide_repairs(seen: Observation, sweep: ClusterSweep) -> list[actions.Action]:
    """Return actions that record or enforce cancellations, and release or abandon jobs that cannot start."""
    decided: list[actions.Action] = []
    for order in seen.orders:
        if order.token in seen.found:
            decided += _lost_submission(order, seen)
    if seen.silence:
        return decided
    decided += _seen_canceled(seen)
    if jobs := jobs_to_cancel(seen, seen.requests.canceled & seen.runs.keys()):
        decided.append(actions.CancelJobs(jobs))
    decided += _never_starting(seen)
    for status in seen.runs.values():
        fact = status.fact
        if status.state is not ClusterState.HELD or status.job_id is None or fact is None:
            continue
        if fact.launch_failed and fact.restarts <= sweep.retries.node_failures:
            decided.append(actions.Release(status.job_id, status.run.label))
    return decided


def jobs_to_cancel(seen: Observation, names: Collection[str]) -> tuple[str, ...]:
    """Return the ids of live jobs of these runs, except jobs shared with another run that is not done."""
    unwanted = {name for name, status in seen.runs.items() if name in names or status.state is ClusterState.DONE}
    shared = {status.job_id: set[str]() for status in seen.runs.values()}
    for order in seen.orders:
        for number, element in enumerate(order.elements):
            shared.setdefault(order.job_id_of(number), set()).update(element.runs)
    jobs = {seen.runs[name].job_id for name in names if name in seen.runs and seen.runs[name].live_here}
    return tuple(sorted(job for job in jobs if job is not None and shared[job] <= unwanted))


def _lost_submission(order: Order, seen: Observation) -> Iterator[actions.Action]:
    job_id = seen.found[order.token]
    if job_id is not None:
        yield actions.NoteJobId(order, job_id)
    elif all(launch.token != order.token for launch in seen.launches) and seen.at - order.created > _INTENT_AGE_S:
        yield actions.Abandon(order)


def _seen_canceled(seen: Observation) -> Iterator[actions.Action]:
    for order in seen.orders:
        canceled = frozenset(
            number
            for number in range(len(order.elements))
            if (fact := seen.facts.get(order.job_id_of(number) or "")) is not None
            and fact.state is JobState.CANCELED
            and fact.name == order.job_name
        )
        if not canceled <= order.canceled:
            yield actions.NoteCanceled(order, canceled)


def _never_starting(seen: Observation) -> Iterator[actions.Action]:
    """Yield the abandonment of each order with a failed dependency and no element that ever ran."""
    stuck = {status.job_id for status in seen.runs.values() if status.live and status.fact and status.fact.never_starts}
    begun = {(launch.token, launch.element) for launch in seen.launches}
    for order in seen.orders:
        numbers = range(len(order.elements))
        if any(order.job_id_of(number) in stuck for number in numbers) and not any(
            (order.token, number) in begun for number in numbers
        ):
            yield actions.Abandon(order, never_starts=True)


# ------------------------------------------------------------------------------------------------ orders


def decide_orders(
    seen: Observation, sweep: ClusterSweep, so_far: Progress, keeper: KeeperStatus
) -> list[actions.Action]:
    """Return orders to submit now, or the dismissal of a keeper that occupies the only place in the queue."""
    if so_far.unanswered:
        return []
    excluded = () if so_far.all_nodes_needed else bad_nodes(seen.runs)
    places = 0 if sweep.keeper is None else PLACES
    planned = planned_orders(seen.runs, sweep.limits, places, so_far)
    if submissions := [actions.Submit(order, excluded) for order in planned]:
        return [*submissions]
    waiting = so_far.keeper or keeper.waiting
    stuck = so_far.full and not so_far.ordered and not any(status.live for status in seen.runs.values())
    return [actions.DismissKeeper(waiting, for_room=True)] if stuck and waiting and not so_far.keeper_dismissed else []


def planned_orders(
    runs: Mapping[str, RunStatus],
    limits: Mapping[str, LimitSettings],
    kept_free: int = 0,
    so_far: Progress | None = None,
) -> Iterator[PlannedOrder]:
    """Yield as many orders as the site's limits allow, split into job arrays of an allowed size.

    `runs` is in topological order, `limits` is keyed by partition, and `kept_free` is the number of jobs below the
    submit limit that are reserved for keepers.
    """
    so_far = so_far or Progress()
    live = {name for name, status in runs.items() if status.live_here}
    queued = {(_partition(runs[name]), runs[name].job_id) for name in live}
    queued |= {(_partition(runs[name]), job_id) for name, job_id in so_far.jobs.items()}
    waiting = Counter(partition for partition, _ in queued)
    coming = {name for name in live if runs[name].state is not ClusterState.HELD and runs[name].job_id}
    coming |= so_far.jobs.keys()
    for alike in _alike(runs, so_far):
        request, needs, partition = alike[0].run.request, _missing(alike[0], runs), _partition(alike[0])
        if request.partition in so_far.full:
            continue
        for taken in _arrays(alike, needs, limits[partition], so_far):
            if (submitted := limits[partition].submitted) is not None:
                room = max(1, submitted - kept_free)
                taken = taken[: max(0, room - waiting[partition])]
            if taken and coming.issuperset(needs):
                yield PlannedOrder(request, needs, taken)
                waiting[partition] += len(taken)
                coming.update(run for element in taken for run in element.runs)


def bad_nodes(runs: Mapping[str, RunStatus]) -> tuple[str, ...]:
    """Return the nodes on which several jobs were lost, or none if there are too many such nodes."""
    lost = Counter(node for status in runs.values() for node in status.lost_on)
    bad = [node for node, jobs in lost.most_common() if jobs >= _BAD_NODE]
    return tuple(sorted(bad)) if len(bad) <= _MOST_EXCLUDED else ()


def _partition(status: RunStatus) -> str:
    return status.run.request.partition or ""


def _alike(runs: Mapping[str, RunStatus], so_far: Progress) -> list[list[RunStatus]]:
    """Group the runs to submit that can be tasks of one array: they have the same request and dependencies."""
    alike: dict[tuple[str, tuple[str, ...]], list[RunStatus]] = {}
    for name, status in runs.items():
        if status.to_submit and name not in so_far.jobs and name not in so_far.hopeless:
            alike.setdefault((repr(status.run.request), _missing(status, runs)), []).append(status)
    return list(alike.values())


def _missing(status: RunStatus, runs: Mapping[str, RunStatus]) -> tuple[str, ...]:
    return tuple(need for need in status.run.needs if not runs[need].trained)


def _arrays(
    alike: Sequence[RunStatus], needs: tuple[str, ...], limit: LimitSettings, so_far: Progress
) -> Iterator[tuple[Element, ...]]:
    """Split runs into arrays within the site's limits, as stated in the profile or found by rejections."""
    request = alike[0].run.request
    elements = _elements(alike, request.runs)
    tasks = None if limit.array_index is None else limit.array_index + 1
    met = so_far.at_most.get(PlannedOrder(request, needs, ()).kind)
    largest = min(filter(None, (limit.array_tasks, tasks, met, len(elements))))
    full = len(elements) - (len(elements[-1].runs) < request.runs)  # a partly filled last job requests less
    starts = [*range(0, full, largest), *range(full, len(elements))]
    for first, end in zip(starts, [*starts[1:], len(elements)], strict=True):
        yield tuple(elements[first:end])


def _elements(alike: Sequence[RunStatus], together: int) -> list[Element]:
    packs = [alike[first : first + together] for first in range(0, len(alike), together)]
    return [
        Element(tuple(status.run.run for status in pack), tuple(status.submission + 1 for status in pack))
        for pack in packs
    ]


# ------------------------------------------------------------------------------------------------ keeper


def keeper_wanted(seen: Observation, sweep: ClusterSweep) -> bool:
    """Return whether the sweep has keepers and still has anything to wait for."""
    return sweep.keeper is not None and not is_over(seen.runs, ())


def decide_keeper(keeper: KeeperStatus) -> list[actions.Action]:
    """Return actions after which one keeper is in the queue."""
    if keeper.silence:
        return [actions.LackKeeper(keeper.silence)]
    decided = _held_keepers(keeper)
    return [*decided, actions.LeaveKeeper()] if keeper.waiting is None else decided


def decide_waiting(seen: Observation, so_far: Progress, keeper: KeeperStatus) -> list[actions.Action]:
    """Return the keeper's dependency on the live jobs, or its dismissal if the sweep is over."""
    if keeper.silence:
        return [actions.PrintLine(keeper.silence)]
    decided = _held_keepers(keeper)
    if keeper.waiting is None:
        return decided
    if is_over(seen.runs, so_far.hopeless):
        return [*decided, actions.DismissKeeper(keeper.waiting)]
    alive = dict.fromkeys(status.job_id for status in seen.runs.values() if status.live_here and status.job_id)
    return [*decided, actions.KeeperWaitsFor(keeper.waiting, tuple(alive)[:_MOST_WAITED_FOR])]


def is_over(runs: Mapping[str, RunStatus], hopeless: Collection[str]) -> bool:
    """Return whether no run can change its state without the user; `hopeless` are runs whose orders were rejected."""
    return not any(
        status.live or status.undecided or (status.to_submit and name not in hopeless) for name, status in runs.items()
    )


def _held_keepers(keeper: KeeperStatus) -> list[actions.Action]:
    decided: list[actions.Action] = [actions.CancelJobs(keeper.held)] if keeper.held else []
    if keeper.waiting is not None and not keeper.noted:
        decided.append(actions.NoteKeeper(keeper.waiting))
    return decided
