"""The job store: orders, written before they are submitted and kept, so that no job is lost or made twice.

OUT/cluster/orders/<token>.json                         the order; the job bears the token in its name
OUT/cluster/orders/<token>.id                           the scheduler's number of the job, once it has said one
OUT/cluster/orders/<token>.abandoned                    nothing came of it
OUT/cluster/orders/<token>.canceled                     its elements that a pass saw canceled
OUT/cluster/launches/<token>-<element>-<slot>-<restart>.json    by the job: where, since when, how it ended
OUT/cluster/requeue/<token>-<element>                   by the job, for its batch script: put me back in the queue
OUT/cluster/canceled/<run>                              by a user: make no further job for it
OUT/cluster/retried/<run>                               by a user: try it again, whatever became of earlier jobs
OUT/cluster/keeper.id                                   of the job that makes the next pass (hpc.cluster.keeper)
OUT/cluster/logs/                                       what the jobs print
"""

import dataclasses
import json
import re
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fgssl.errors import UserError
from fgssl.store.files import read_record, record_json, write_atomically
from fgssl.store.lease import Generation
from hpc.cluster.schedulers.scheduler import JobRequest

_NEVER_DELETED = "put it back as it was; or cancel the jobs and rename the output folder, or submit with another --out"
"""Advice on a damaged record whose job may be at work, so that deleting it is no way out."""


@dataclass(frozen=True)
class Element:
    """The runs of one job, or of one task of an array: one, or several side by side."""

    runs: tuple[str, ...]
    submissions: tuple[int, ...]
    """Number of each run's submission, from 1: how often a job was ordered for it."""


@dataclass(frozen=True)
class Order:
    """A job, or an array of jobs, that is for the scheduler."""

    token: str
    job_name: str
    created: float
    """Seconds since the epoch."""
    processes: int
    """Processes of each run."""
    walltime_min: int
    signal_delay_s: int
    """How long before the time limit the job is signaled to save."""
    elements: tuple[Element, ...]
    """One element makes a plain job, several an array."""
    after: tuple[str, ...] = ()
    """Ids of jobs that must end well before."""
    packed: bool = False
    """Whether the tasks of a job each make a run of their own."""
    runs_per_gpu: int = 1
    job_id: str | None = field(default=None, compare=False)
    canceled: frozenset[int] = field(default=frozenset(), compare=False)
    """Elements that a pass saw canceled; the scheduler forgets that after some minutes."""
    abandoned: bool = field(default=False, compare=False)

    def generation(self, restart: int) -> Generation:
        """Return the generation of a launch: later orders are newer, then more restarts, whatever became of files."""
        return int(1000 * self.created), restart

    def job_id_of(self, element: int) -> str | None:
        """Return the scheduler's id of an element: `12`, or `12_3` of an array."""
        if self.job_id is None:
            return None
        return self.job_id if len(self.elements) == 1 else f"{self.job_id}_{element}"


@dataclass(frozen=True)
class CanceledElements:
    """Elements of an order that a pass saw canceled."""

    elements: frozenset[int]


@dataclass(frozen=True)
class Launch:
    """One time that a job ran a run."""

    token: str
    element: int
    slot: int
    """Index of the run in its element."""
    restart: int
    """How often the job had been put back in the queue."""
    started: float
    time_up: float
    """Seconds since the epoch; an end after this counts as reaching the walltime."""
    nodes: str
    first_step: int
    """Step of the newest checkpoint when it began."""
    ended: float | None = None
    exit_code: int | None = None
    """See `fgssl.errors`; else 1 or 2, a fault of its own."""
    signal: int = 0
    """Number of the signal that interrupted it; 0: none."""
    said: str = ""
    """Message of a fault before the run folder was there to note it."""


@dataclass(frozen=True)
class UserRequests:
    """Runs that users canceled or want tried again."""

    canceled: frozenset[str] = frozenset()
    retried: Mapping[str, float] = field(default_factory=dict)
    """Run to the time (seconds since the epoch) of the request; all jobs ordered before are forgiven."""


def new_order(
    sweep: str, token: str, request: JobRequest, elements: Sequence[Element], after: Sequence[str] = ()
) -> Order:
    packed = request.runs > 1
    return Order(
        token=token,
        job_name=f"{sweep}-{token}",
        created=time.time(),
        processes=1 if packed else request.nodes * request.tasks_per_node,
        walltime_min=request.walltime_min,
        signal_delay_s=request.signal_delay_s,
        elements=tuple(elements),
        after=tuple(after),
        packed=packed,
        runs_per_gpu=request.runs_per_gpu,
    )


class JobStore:
    """The job store of one output folder."""

    def __init__(self, out: Path) -> None:
        self.folder = out.absolute() / "cluster"
        self.logs = self.folder / "logs"
        self._orders, self._launches = self.folder / "orders", self.folder / "launches"
        self._canceled, self._retried = self.folder / "canceled", self.folder / "retried"
        self._requeue = self.folder / "requeue"

    def make(self) -> None:
        for folder in (self._orders, self._launches, self._canceled, self._retried, self._requeue, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    # ----------------------------------------------------------------------------------------- orders

    def intend(self, sweep: str, request: JobRequest, elements: Sequence[Element], after: Sequence[str] = ()) -> Order:
        """Write down an order that is about to be submitted."""
        order = new_order(sweep, uuid.uuid4().hex[:12], request, elements, after)
        write_atomically(self.order_file(order.token), record_json(order))
        return order

    def order_file(self, token: str) -> Path:
        return self._orders / f"{token}.json"

    def note_id(self, order: Order, job_id: str) -> Order:
        write_atomically(self._orders / f"{order.token}.id", job_id)
        return dataclasses.replace(order, job_id=job_id)

    def abandon(self, order: Order) -> None:
        """Mark an order as abandoned; if the scheduler has its job after all, the job does nothing."""
        write_atomically(self._orders / f"{order.token}.abandoned", "")

    def note_canceled(self, order: Order, elements: Iterable[int]) -> None:
        together = CanceledElements(order.canceled.union(elements))
        write_atomically(self._orders / f"{order.token}.canceled", record_json(together))

    def withdraw(self, order: Order) -> None:
        """Delete an order that the scheduler refused. Its script stays, for people to look at."""
        self.order_file(order.token).unlink()

    def read_order(self, file: Path) -> Order:
        if (order := read_record(file, Order, advice=_NEVER_DELETED)) is None:
            raise UserError(
                f"{file}: is not to be seen on {socket.gethostname()}: does this node have the shared file system of "
                "the sweep's output folder?"
            )
        canceled = read_record(file.with_suffix(".canceled"), CanceledElements, advice="delete it if its jobs are over")
        return dataclasses.replace(
            order,
            canceled=canceled.elements if canceled is not None else frozenset(),
            job_id=_job_id(file.with_suffix(".id")),
            abandoned=file.with_suffix(".abandoned").exists(),
        )

    def orders(self) -> list[Order]:
        """Return all orders, the oldest first."""
        found = []
        for file in self._orders.glob("*.json"):
            try:
                found.append(self.read_order(file))
            except UserError:
                if file.exists():  # else it was withdrawn meanwhile
                    raise
        return sorted(found, key=lambda order: order.created)

    def note_refused(self, words: Mapping[str, str]) -> None:
        """Write the runs that the scheduler refused in the newest pass, with its words."""
        write_atomically(self.folder / "refused.json", json.dumps(words))

    def refused(self) -> dict[str, str]:
        file = self.folder / "refused.json"
        return read_record(file, dict[str, str], advice="delete it, the next sync writes it anew") or {}

    # --------------------------------------------------------------------------------------- launches

    def write_launch(self, launch: Launch) -> None:
        name = f"{launch.token}-{launch.element}-{launch.slot}-{launch.restart}.json"
        write_atomically(self._launches / name, record_json(launch))

    def launch(self, token: str, element: int, slot: int, restart: int) -> Launch | None:
        file = self._launches / f"{token}-{element}-{slot}-{restart}.json"
        return read_record(file, Launch, advice=_NEVER_DELETED)

    def launches(self) -> Iterator[Launch]:
        for file in self._launches.glob("*.json"):
            if launch := read_record(file, Launch, advice=_NEVER_DELETED):
                yield launch

    def log(self, token: str, element: int | str) -> Path:
        return self.logs / f"{token}-{element}.log"

    def requeue_file(self, token: str, element: int | str) -> Path:
        return self._requeue / f"{token}-{element}"

    # ----------------------------------------------------------------------------------------- keeper

    def keeper(self) -> str | None:
        """Return the id of the newest keeper job, or None."""
        return _job_id(self.folder / "keeper.id")

    def note_keeper(self, job_id: str) -> None:
        write_atomically(self.folder / "keeper.id", job_id)

    # ----------------------------------------------------------------------------------------- users' requests

    def cancel(self, runs: Iterable[str]) -> None:
        for run in runs:
            write_atomically(self._canceled / run, "")

    def retry(self, runs: Iterable[str]) -> None:
        for run in runs:
            write_atomically(self._retried / run, json.dumps(time.time()))
            (self._canceled / run).unlink(missing_ok=True)

    def canceled(self, run: str) -> bool:
        return (self._canceled / run).exists()

    def user_requests(self) -> UserRequests:
        advice = "delete it, and give `fgssl retry` for this run again"
        retried = {file.name: read_record(file, float, advice=advice) for file in self._retried.glob("[!.]*")}
        return UserRequests(
            canceled=frozenset(file.name for file in self._canceled.glob("[!.]*")),
            retried={run: at for run, at in retried.items() if at is not None},
        )


def _job_id(file: Path) -> str | None:
    """Return the job's id that a file holds, or None if there is no such file."""
    try:
        job_id = file.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    if re.fullmatch(r"[\w.-]+", job_id) is None:
        raise UserError(f"{file}: holds no id of a job: delete it, the next sync finds the job by its name")
    return job_id
