"""What was asked of the scheduler: written before it is asked, kept for good, so that no job is lost or made twice.

OUT/cluster/orders/<token>.json                         the order; the job bears the token in its name
OUT/cluster/orders/<token>.id                           the scheduler's number of the job, once it has said one
OUT/cluster/orders/<token>.void                         nothing came of it
OUT/cluster/orders/<token>.cancelled                    its elements that a pass saw cancelled
OUT/cluster/attempts/<token>-<element>-<slot>-<restart>.json    by the job: where, since when, how it ended
OUT/cluster/requeue/<token>-<element>                   by the job, for its batch script: put me back in the queue
OUT/cluster/cancelled/<run>                             a person wants nothing more of it
OUT/cluster/retried/<run>                               a person wants it tried again, whatever became of earlier jobs
OUT/cluster/keeper.id                                   of the job that makes the next pass (hpc.cluster.keeper)
OUT/cluster/logs/                                       what the jobs print
"""

import dataclasses
import json
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from fgssl.errors import UserError
from fgssl.store.files import read_json, write_atomically
from fgssl.store.lease import Generation
from hpc.cluster.site.requests import JobRequest


@dataclass(frozen=True)
class Element:
    """What one job, or one task of an array, is to do: one run, or several side by side."""

    runs: tuple[str, ...]
    attempts: tuple[int, ...]
    """Of each run, from 1: how often a job was ordered for it."""


@dataclass(frozen=True)
class Order:
    token: str
    job_name: str
    created: float
    """Seconds since the epoch."""
    processes: int
    """Of each run."""
    walltime_min: int
    signal_delay_s: int
    """How long before that the job is told to save."""
    elements: tuple[Element, ...]
    """One: a plain job. Several: an array."""
    after: tuple[str, ...] = ()
    """Jobs that must end well before."""
    packed: bool = False
    """Whether the tasks of a job each make a run of their own."""
    runs_per_gpu: int = 1
    job_id: str | None = field(default=None, compare=False)
    cancelled: frozenset[int] = field(default=frozenset(), compare=False)
    """Elements that a pass saw cancelled: the scheduler forgets that after some minutes."""
    void: bool = field(default=False, compare=False)

    def generation(self, restart: int) -> Generation:
        """Of the attempt after so many returns to the queue: a later order is newer, whatever became of the files."""
        return int(1000 * self.created), restart

    def job_id_of(self, element: int) -> str | None:
        """As the scheduler calls it: `12`, or `12_3` of an array."""
        if self.job_id is None:
            return None
        return self.job_id if len(self.elements) == 1 else f"{self.job_id}_{element}"


@dataclass(frozen=True)
class Attempt:
    """One time that a job was at a run."""

    token: str
    element: int
    slot: int
    """Which of the element's runs."""
    restart: int
    """How often the job had been put back in the queue."""
    started: float
    time_up: float
    """Seconds since the epoch from which on an end is that of its walltime."""
    nodes: str
    first_step: int
    """Of the newest checkpoint when it began."""
    ended: float | None = None
    exit_code: int | None = None
    """See `fgssl.errors`; else 1 or 2: a fault of its own."""
    signal: int = 0
    """That interrupted it."""
    said: str = ""
    """Of a fault that came before the run folder was there to note it."""


@dataclass(frozen=True)
class Wishes:
    """What people want of runs."""

    cancelled: frozenset[str] = frozenset()
    """Nothing more."""
    retried: Mapping[str, float] = field(default_factory=dict)
    """That all jobs ordered before this time (seconds since the epoch) be forgiven."""


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


class Books:
    """The files of one output folder."""

    def __init__(self, out: Path) -> None:
        self.folder = out.absolute() / "cluster"
        self.logs = self.folder / "logs"
        self._orders, self._attempts = self.folder / "orders", self.folder / "attempts"
        self._cancelled, self._retried = self.folder / "cancelled", self.folder / "retried"
        self._requeue = self.folder / "requeue"

    def make(self) -> None:
        for folder in (self._orders, self._attempts, self._cancelled, self._retried, self._requeue, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    # ----------------------------------------------------------------------------------------- orders

    def intend(self, sweep: str, request: JobRequest, elements: Sequence[Element], after: Sequence[str] = ()) -> Order:
        """Note an order that is about to be given."""
        order = new_order(sweep, uuid.uuid4().hex[:12], request, elements, after)
        content = {name: value for name, value in dataclasses.asdict(order).items() if name not in _LEARNT}
        write_atomically(self.order_file(order.token), json.dumps(content))
        return order

    def order_file(self, token: str) -> Path:
        return self._orders / f"{token}.json"

    def note_id(self, order: Order, job_id: str) -> Order:
        write_atomically(self._orders / f"{order.token}.id", job_id)
        return dataclasses.replace(order, job_id=job_id)

    def note_void(self, order: Order) -> None:
        """Whatever the scheduler has of it does nothing."""
        write_atomically(self._orders / f"{order.token}.void", "")

    def note_cancelled(self, order: Order, elements: Iterable[int]) -> None:
        together = sorted({*order.cancelled, *elements})
        write_atomically(self._orders / f"{order.token}.cancelled", json.dumps({"elements": together}))

    def withdraw(self, order: Order) -> None:
        """Of which the scheduler will never know. The script stays, for people to look at."""
        self.order_file(order.token).unlink()

    def read_order(self, file: Path) -> Order:
        if (content := read_json(file)) is None:
            raise UserError(
                f"{file}: is not to be seen on {socket.gethostname()}: does this node have the shared file system of "
                "the sweep's output folder?"
            )
        order = _ORDER.validate_python(content)
        identity = file.with_suffix(".id")
        return dataclasses.replace(
            order,
            cancelled=frozenset((read_json(file.with_suffix(".cancelled")) or {}).get("elements", ())),
            job_id=identity.read_text().strip() if identity.exists() else None,
            void=file.with_suffix(".void").exists(),
        )

    def orders(self) -> list[Order]:
        """All of them, the oldest first."""
        found = []
        for file in self._orders.glob("*.json"):
            try:
                found.append(self.read_order(file))
            except UserError:
                if file.exists():  # else it was withdrawn meanwhile
                    raise
        return sorted(found, key=lambda order: order.created)

    def note_refused(self, words: Mapping[str, str]) -> None:
        """By run, of the newest pass: those that the scheduler will never take as they are asked for."""
        write_atomically(self.folder / "refused.json", json.dumps(words))

    def refused(self) -> dict[str, str]:
        return read_json(self.folder / "refused.json") or {}

    # --------------------------------------------------------------------------------------- attempts

    def write_attempt(self, attempt: Attempt) -> None:
        name = f"{attempt.token}-{attempt.element}-{attempt.slot}-{attempt.restart}.json"
        write_atomically(self._attempts / name, json.dumps(dataclasses.asdict(attempt)))

    def attempt(self, token: str, element: int, slot: int, restart: int) -> Attempt | None:
        record = read_json(self._attempts / f"{token}-{element}-{slot}-{restart}.json")
        return None if record is None else _ATTEMPT.validate_python(record)

    def attempts(self) -> Iterator[Attempt]:
        for file in self._attempts.glob("*.json"):
            if record := read_json(file):
                yield _ATTEMPT.validate_python(record)

    def log(self, token: str, element: int | str) -> Path:
        return self.logs / f"{token}-{element}.log"

    def requeue_file(self, token: str, element: int | str) -> Path:
        return self._requeue / f"{token}-{element}"

    # ----------------------------------------------------------------------------------------- keeper

    def keeper(self) -> str | None:
        """Id of the newest job that is to make the next pass."""
        file = self.folder / "keeper.id"
        return file.read_text().strip() if file.exists() else None

    def note_keeper(self, job_id: str) -> None:
        write_atomically(self.folder / "keeper.id", job_id)

    # ----------------------------------------------------------------------------------------- wishes

    def cancel(self, runs: Iterable[str]) -> None:
        for run in runs:
            write_atomically(self._cancelled / run, "")

    def retry(self, runs: Iterable[str]) -> None:
        for run in runs:
            write_atomically(self._retried / run, json.dumps(time.time()))
            (self._cancelled / run).unlink(missing_ok=True)

    def cancelled(self, run: str) -> bool:
        return (self._cancelled / run).exists()

    def wishes(self) -> Wishes:
        return Wishes(
            cancelled=frozenset(file.name for file in self._cancelled.glob("[!.]*")),
            retried={file.name: float(file.read_text()) for file in self._retried.glob("[!.]*")},
        )


_LEARNT = ("job_id", "cancelled", "void")
"""Of an order, after it was given: in files of their own."""
_ORDER: TypeAdapter[Order] = TypeAdapter(Order)
_ATTEMPT: TypeAdapter[Attempt] = TypeAdapter(Attempt)
