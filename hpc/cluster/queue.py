"""Views of all runs -> the orders to give now: as much as the site lets wait in its queue, cut into arrays it takes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hpc.cluster.job_store import Element
from hpc.cluster.site.profile import LimitSettings
from hpc.cluster.site.requests import JobRequest
from hpc.cluster.states import LIVE, ClusterState, View


@dataclass(frozen=True)
class Batch:
    """One order to give: a job, or the tasks of an array."""

    request: JobRequest
    needs: tuple[str, ...]
    """Runs whose jobs, in the queue or of a batch before this one, must end well before this begins."""
    elements: tuple[Element, ...]


def due(views: Mapping[str, View], limits: Mapping[str, LimitSettings], kept_free: int = 0) -> Iterator[Batch]:
    """In the order to give them in; `views` by run, in an order in which needs come first; `limits` by partition.

    `kept_free`: places of each queue that are for others.
    """
    queued = {(_partition(view), view.job_id) for view in views.values() if view.state in LIVE}
    waiting = Counter(partition for partition, _ in queued)
    coming = {name for name, view in views.items() if view.state in LIVE - {ClusterState.HELD} and view.job_id}
    for views_alike in _alike(views):
        request, needs, partition = (
            views_alike[0].run.request,
            _missing(views_alike[0], views),
            _partition(views_alike[0]),
        )
        elements, limit = _elements(views_alike, request.runs), limits[partition]
        largest = min(filter(None, (limit.array_tasks, _tasks(limit.array_index), len(elements))))
        full = len(elements) - (len(elements[-1].runs) < request.runs)  # a last pack that is not full asks for less
        starts = [*range(0, full, largest), *range(full, len(elements))]
        for first, end in zip(starts, [*starts[1:], len(elements)], strict=True):
            taken = tuple(elements[first:end])
            if limit.submitted is not None:
                room = max(1, limit.submitted - kept_free)
                taken = taken[: max(0, room - waiting[partition])]
            if taken and coming.issuperset(needs):
                yield Batch(request, needs, taken)
                waiting[partition] += len(taken)
                coming.update(run for element in taken for run in element.runs)


def _partition(view: View) -> str:
    return view.run.request.partition or ""


def _alike(views: Mapping[str, View]) -> list[list[View]]:
    """Runs to order, those together that can be tasks of one array: they ask and wait for the same."""
    alike: dict[tuple[str, tuple[str, ...]], list[View]] = {}
    for view in views.values():
        if view.to_submit:
            alike.setdefault((repr(view.run.request), _missing(view, views)), []).append(view)
    return list(alike.values())


def _missing(view: View, views: Mapping[str, View]) -> tuple[str, ...]:
    return tuple(need for need in view.run.needs if not views[need].trained)


def _elements(views: Sequence[View], together: int) -> list[Element]:
    packs = [views[first : first + together] for first in range(0, len(views), together)]
    return [Element(tuple(view.run.run for view in pack), tuple(view.attempt + 1 for view in pack)) for pack in packs]


def _tasks(highest_index: int | None) -> int | None:
    return None if highest_index is None else highest_index + 1
