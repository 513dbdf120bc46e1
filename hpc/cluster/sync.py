"""One pass over a sweep on a cluster: look, settle what is left open, order what is due. Harmless at any time."""

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fgssl.errors import LeaseError, UserError
from fgssl.store.files import lock
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import ClusterSweep
from hpc.cluster.job_store import Books, Order, new_order
from hpc.cluster.keeper import PLACES, dismiss_keeper, leave_keeper, let_keeper_wait
from hpc.cluster.queue import Batch, due
from hpc.cluster.schedulers.scheduler import JobFact, Refusal, RefusedError, Scheduler, SchedulerUnavailableError
from hpc.cluster.site.requests import JobRequest
from hpc.cluster.states import LIVE, ClusterState, View, look
from hpc.cluster.submission import Submission

_INTENT_AGE_S = 600.0
"""An order whose number nobody noted may still be on its way to the scheduler for so long."""
_BAD_NODE = 2
"""Jobs that were lost on a node, after which no more are sent there."""
_MOST_EXCLUDED = 10
"""Nodes: with more, something else is wrong."""
_TURN_S = 60.0
"""How long to wait for another process's pass."""


@dataclass
class Report:
    """What a pass did, for people."""

    views: Mapping[str, View]
    ordered: int = 0
    """Jobs and tasks of arrays."""
    lines: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Orders that the scheduler will never take as they are."""
    unanswered: bool = False
    """Whether the scheduler was silent, so that nothing could be done."""
    no_keeper: bool = False
    """Whether one should wait and none does."""
    no_room: bool = False
    """Whether the queue was too full for some order."""
    hopeless: dict[str, str] = field(default_factory=dict)
    """Runs whose orders were refused, and in which words."""

    @property
    def over(self) -> bool:
        """Whether nothing more becomes of any run by itself."""
        due = any(view.to_submit and name not in self.hopeless for name, view in self.views.items())
        return not (due or any(view.state in LIVE or view.undecided for view in self.views.values()))


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Wait for another process's pass over this folder; raises `LeaseError` where it takes too long."""
    with (out / "cluster" / "sync.lock").open("a") as file:
        if not lock(file, patience_s=_TURN_S):
            raise LeaseError(f"{file.name}: another process has had it for {_TURN_S:.0f} s")
        yield


def views_of(
    sweep: ClusterSweep, out: Path, books: Books, scheduler: Scheduler, note: bool = False
) -> tuple[dict[str, View], list[Order], str]:
    """And the orders, and why the scheduler was silent, if it was. `note` what it will forget, for a later pass."""
    orders = books.orders()
    asked = _job_ids(sweep, out, orders)
    facts: Mapping[str, JobFact] | None
    try:
        facts, silence = scheduler.facts(asked), ""
        up_since = 0.0 if facts.keys() >= set(asked) else scheduler.up_since()
    except SchedulerUnavailableError as error:
        facts, up_since, silence = None, 0.0, str(error)
    if note and facts:
        _note_cancelled(books, orders, facts)
    views = look(sweep.runs, out, orders, books.attempts(), books.wishes(), facts, sweep.retries, up_since)
    for name, words in books.refused().items():
        if name in views and views[name].state is ClusterState.WAITING:
            views[name] = dataclasses.replace(views[name], reason=words)
    return views, orders, silence


def synchronize(out: Path, scheduler: Scheduler) -> Report:
    """Order what is due of the sweep in `out`. Raises `LeaseError` where another process does so now."""
    books = Books(out)
    with alone(out):
        sweep = cluster_sweep.read(out)  # what was submitted last, also where this pass had to wait
        lines = _find_numbers(books, scheduler)
        views, orders, silence = views_of(sweep, out, books, scheduler, note=True)
        if silence:
            return Report(views, lines=[*lines, silence], unanswered=True)
        if settled := _settle(sweep, views, orders, books, scheduler):
            lines += settled
            views, orders, silence = views_of(sweep, out, books, scheduler)
            if silence:
                return Report(views, lines=[*lines, silence], unanswered=True)
        report = Report(views, lines=lines)
        submission = Submission(books, Path(sweep.code), scheduler)
        # Before the orders, which may take all the room that the queue has.
        if said := leave_keeper(sweep, views, books, scheduler, submission):
            report.lines.append(said)
            report.no_keeper = True
        _order(sweep, report, books, submission)
        if report.no_room and not report.ordered and not any(view.state in LIVE for view in views.values()):
            with _told(report.lines):  # it has the only place that there is
                dismiss_keeper(sweep, books, scheduler)
                report.lines.append("no keeper waits, for the queue takes no job beside it; `fgssl sync` goes on")
                _order(sweep, report, books, submission)
        books.note_refused(report.hopeless)
        if report.ordered or report.hopeless:
            report.views, *_ = views_of(sweep, out, books, scheduler)
        with _told(report.lines):
            if report.over:
                dismiss_keeper(sweep, books, scheduler)
            else:
                let_keeper_wait(sweep, report.views, books, scheduler)
    return report


def _note_cancelled(books: Books, orders: list[Order], facts: Mapping[str, JobFact]) -> None:
    for place, order in enumerate(orders):
        seen = {number for number in range(len(order.elements)) if _is_cancelled(order, number, facts)}
        if not seen <= order.cancelled:
            books.note_cancelled(order, seen)
            orders[place] = dataclasses.replace(order, cancelled=order.cancelled | seen)


def _is_cancelled(order: Order, number: int, facts: Mapping[str, JobFact]) -> bool:
    fact = facts.get(order.job_id_of(number) or "")
    return fact is not None and fact.state == "CANCELLED" and fact.name == order.job_name


def batches_left(sweep: ClusterSweep, out: Path) -> list[Batch]:
    """All that is to do, as if nothing were in the queue and the queue had no end."""
    views = look(sweep.runs, out, [], [], Books(out).wishes(), {}, sweep.retries)
    endless = {name: dataclasses.replace(limits, submitted=None) for name, limits in sweep.limits.items()}
    return list(due(views, endless))


def scripts(sweep: ClusterSweep, batches: Iterable[Batch], out: Path, scheduler: Scheduler) -> Iterator[str]:
    """The batch scripts of `batches`, with words where numbers of jobs will stand; nothing is written."""
    submission, labels = Submission(Books(out), Path(sweep.code), scheduler), {run.run: run.label for run in sweep.runs}
    for number, batch in enumerate(batches, start=1):
        after = tuple(f"<job of {labels[need]}>" for need in batch.needs)
        order = new_order(sweep.name, f"order-{number}", batch.request, batch.elements, after)
        yield submission.script(order, _asked(batch.request, order, sweep, ()))


def cancel(views: Mapping[str, View], orders: Iterable[Order], names: Collection[str], scheduler: Scheduler) -> None:
    """Take jobs out of the queue that are for nobody but these runs, and runs that are done."""
    unwanted = {name for name, view in views.items() if name in names or view.state is ClusterState.DONE}
    shared = {view.job_id: set[str]() for view in views.values()}
    for order in orders:
        for number, element in enumerate(order.elements):
            shared.setdefault(order.job_id_of(number), set()).update(element.runs)
    jobs = {views[name].job_id for name in names if views[name].state in LIVE}
    scheduler.cancel([job for job in jobs if job is not None and shared[job] <= unwanted])


def _job_ids(sweep: ClusterSweep, out: Path, orders: Iterable[Order]) -> list[str]:
    """Of the jobs of runs that are not done, and those before them."""
    undone = {run.run for run in sweep.runs if not run.done(out)}
    found: dict[str, None] = {}
    for order in orders:
        for number, element in enumerate(order.elements):
            if undone.intersection(element.runs) and (job_id := order.job_id_of(number)) is not None:
                found |= dict.fromkeys([job_id, *order.after])
    return list(found)


def _find_numbers(books: Books, scheduler: Scheduler) -> list[str]:
    """Of orders whose submitter was killed between sbatch and noting the job's number; or it never came to sbatch."""
    lines = []
    begun = {attempt.token for attempt in books.attempts()}
    for order in books.orders():
        if order.job_id is not None or order.void:
            continue
        try:
            found = scheduler.find(order.job_name)
        except SchedulerUnavailableError:
            continue
        if found:
            books.note_id(order, found[0])
            lines.append(f"job {found[0]} of order {order.token} is in the queue though its number was not noted: kept")
        elif order.token not in begun and time.time() - order.created > _INTENT_AGE_S:
            books.note_void(order)  # should the scheduler have it after all, the job sees that and does nothing
            lines.append(f"order {order.token} never reached the scheduler: forgotten")
    return lines


def _settle(
    sweep: ClusterSweep, views: Mapping[str, View], orders: Iterable[Order], books: Books, scheduler: Scheduler
) -> list[str]:
    """Enforce what people cancelled; release what Slurm held after a launch that failed; take out of the queue what can
    never start."""
    lines: list[str] = []
    begun = {(attempt.token, attempt.element) for attempt in books.attempts()}
    hopeless = {view.job_id for view in views.values() if view.reason == "DependencyNeverSatisfied"}
    with _told(lines):
        cancel(views, orders, books.wishes().cancelled & views.keys(), scheduler)
    for order in orders:
        stuck = [number for number in range(len(order.elements)) if order.job_id_of(number) in hopeless]
        if stuck and not any((order.token, number) in begun for number in range(len(order.elements))):
            with _told(lines):
                scheduler.cancel([order.job_id or ""])
                books.note_void(order)
                lines.append(f"job {order.job_id} waited for one that did not end well: cancelled, to be ordered anew")
    for view in views.values():
        launch_failed = view.state is ClusterState.HELD and "launch failed" in view.reason
        if launch_failed and view.job_id and view.restarts <= sweep.retries.node_failures:
            with _told(lines):
                scheduler.release(view.job_id)
                lines.append(f"{view.run.label}: job {view.job_id} was held after a failed launch: released")
    return lines


@contextlib.contextmanager
def _told(lines: list[str]) -> Iterator[None]:
    """What the scheduler refuses is a line of the report; the pass goes on."""
    try:
        yield
    except UserError as error:
        lines.append(str(error))


def _order(sweep: ClusterSweep, report: Report, books: Books, submission: Submission) -> None:
    jobs = {name: view.job_id if view.state in LIVE else None for name, view in report.views.items()}
    bad_nodes = _bad_nodes(report.views)
    full = set[str | None]()
    for batch in due(report.views, sweep.limits, kept_free=0 if sweep.keeper is None else PLACES):
        if batch.request.partition in full:
            continue
        waiting = list(batch.elements)
        at_once = len(waiting)
        while waiting:
            after = tuple(dict.fromkeys(jobs[need] or "" for need in batch.needs))
            if "" in after:
                break  # what it needs was not taken
            order = books.intend(sweep.name, batch.request, waiting[:at_once], after)
            try:
                job_id = submission.submit(order, _asked(batch.request, order, sweep, bad_nodes))
            except RefusedError as error:
                books.withdraw(order)
                if error.kind in (Refusal.FULL, Refusal.ARRAY) and at_once > 1:
                    at_once = at_once // 2  # an array is refused whole
                    continue
                if error.kind is Refusal.OTHER and bad_nodes:
                    report.lines.append(f"not without {' '.join(bad_nodes)}, though runs were lost there: {error}")
                    bad_nodes = ()
                    continue
                if error.full:
                    report.lines.append(f"the queue is full: {error}; the next sync goes on")
                    full.add(batch.request.partition)
                    report.no_room = True
                    break
                labels = [report.views[run].run.label for element in waiting for run in element.runs]
                more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
                report.refused.append(f"{labels[0]}{more}: {error}")
                words = "refused: " + str(error).partition("\n")[0]
                report.hopeless |= {run: words for element in waiting for run in element.runs}
                break
            except SchedulerUnavailableError as error:  # it may have taken the job all the same: the intent stays
                report.lines.append(str(error))
                report.unanswered = True
                return
            except UserError:  # there is no sbatch
                books.withdraw(order)
                raise
            order = books.note_id(order, job_id)  # should this fail, the next pass finds the job by its name
            report.ordered += len(order.elements)
            waiting = waiting[at_once:]
            for number, element in enumerate(order.elements):
                jobs |= dict.fromkeys(element.runs, order.job_id_of(number))


def _asked(request: JobRequest, order: Order, sweep: ClusterSweep, bad_nodes: tuple[str, ...]) -> JobRequest:
    return dataclasses.replace(
        request,
        job_name=order.job_name,
        dependency=f"afterok:{':'.join(order.after)}" if order.after else None,
        array_parallelism=sweep.limits[request.partition or ""].running or len(order.elements),
        exclude=tuple(dict.fromkeys([*request.exclude, *bad_nodes])),
        extra={"chdir": sweep.folder, **request.extra},
    )


def _bad_nodes(views: Mapping[str, View]) -> tuple[str, ...]:
    """Nodes on which several jobs were lost."""
    lost = Counter(node for view in views.values() for node in view.lost_on)
    bad = [node for node, jobs in lost.most_common() if jobs >= _BAD_NODE]
    return tuple(sorted(bad)) if len(bad) <= _MOST_EXCLUDED else ()
