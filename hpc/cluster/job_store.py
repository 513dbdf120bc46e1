"""Job store: orders of a sweep, each written before its job is submitted, so that no job is lost or submitted twice.

OUT/cluster/orders/<token>.json          order; the token is part of the job's name
OUT/cluster/orders/<token>.id            job id, once the scheduler has returned one
OUT/cluster/orders/<token>.abandoned     mark of an order that never ran
OUT/cluster/orders/<token>.canceled      elements that the scheduler reported as canceled
OUT/cluster/launches/<token>-<element>-<slot>-<restart>.json    written by the job: nodes, start, end, exit code
OUT/cluster/launches/<token>-<element>.txt                      written by the batch script: empty right before it
                                         starts the program; or why the environment, or the program's imports, failed
OUT/cluster/requeue/<token>-<element>    written by the job: request to its batch script to requeue it
OUT/cluster/canceled/<run>               written by `cancel`: submit no further job for this run
OUT/cluster/retried/<run>                written by `retry`: submit this run again and ignore its earlier jobs
OUT/cluster/refused.json                 runs that the scheduler rejected in the newest pass, with its messages
OUT/cluster/keeper.id                    id of the job that makes the next pass (hpc.cluster.keeper)
OUT/cluster/logs/                        output of the jobs
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fgssl.errors import DamagedRecordError, UserError
from fgssl.store.files import read_or_warn, read_record, record_json, warn_once, write_atomically
from fgssl.store.lease import Generation
from hpc.cluster.schedulers.scheduler import JobRequest, Submitter

_DAMAGED_ORDER = (
    "its job may run, so no job is submitted or canceled: restore it, or cancel the job whose name ends in the file's "
    "name, and then delete the file"
)


@dataclass(frozen=True)
class Element:
    """One job, or one task of an array: its run, or the runs that share it."""

    runs: tuple[str, ...]
    submissions: tuple[int, ...]
    """Number of jobs submitted for each run so far, including this one."""


@dataclass(frozen=True)
class Order:
    """Record of a job or a job array that is submitted to the scheduler."""

    token: str
    job_name: str
    created: float
    """Seconds since the epoch."""
    processes: int
    """Number of processes of each run."""
    walltime_min: int
    signal_delay_s: int
    """Time before the time limit at which the job receives the signal to save."""
    elements: tuple[Element, ...]
    """Elements of the order: a single one is a plain job, several are an array."""
    after: tuple[str, ...] = ()
    """Ids of jobs that must complete first (`afterok`)."""
    packed: bool = False
    """Whether each task of a job executes its own run."""
    runs_per_gpu: int = 1
    submitter: Submitter | None = None
    """User and cluster of the job; None if an earlier version submitted it."""
    job_id: str | None = field(default=None, compare=False)
    canceled: frozenset[int] = field(default=frozenset(), compare=False)
    """Elements that were reported as canceled; the scheduler keeps such reports for some minutes only."""
    abandoned: bool = field(default=False, compare=False)
    owner_uid: int | None = field(default=None, compare=False)
    """Owner of its file, who is the user if the order has no submitter."""
    starts: Mapping[int, str] = field(default_factory=dict, compare=False)
    """Element to the content of its file `<token>-<element>.txt`, if it has left one."""

    def is_of(self, here: Submitter | None) -> bool:
        """Return whether the scheduler reports on this order's jobs to `here`; None stands for any submitter."""
        if here is None:
            return True
        return self.submitter == here if self.submitter is not None else self.owner_uid in (None, here.uid)

    def generation(self, restart: int) -> Generation:
        """Return the generation of a launch, which grows with the order's time and then with its restarts."""
        return int(1000 * self.created), restart

    def job_id_of(self, element: int) -> str | None:
        """Return the job id of an element (`12`, or `12_3` for an array), or None if it was never recorded."""
        if self.job_id is None:
            return None
        return self.job_id if len(self.elements) == 1 else f"{self.job_id}_{element}"


@dataclass(frozen=True)
class CanceledElements:
    """Content of an order's `.canceled` file."""

    elements: frozenset[int]


@dataclass(frozen=True)
class Launch:
    """Record of one execution of a run by a job."""

    token: str
    element: int
    slot: int
    """Index of the run in its element."""
    restart: int
    """Number of times the job had been requeued before."""
    started: float
    time_up: float
    """Time in seconds since the epoch after which an end counts as reaching the time limit."""
    nodes: str
    first_step: int
    """Step of the newest checkpoint at the start."""
    ended: float | None = None
    exit_code: int | None = None
    """Exit code of `fgssl.errors`, or 1 or 2 for an error of the run itself."""
    signal: int = 0
    """Number of the signal that interrupted the run, or 0."""
    said: str = ""
    """Error that occurred before it could be recorded in the run folder."""
    yielded: bool = False
    """Whether it ended because another process owns the run folder, which is no fault of its nodes."""


@dataclass(frozen=True)
class UserRequests:
    """Requests that users made by `cancel` and `retry`."""

    canceled: frozenset[str] = frozenset()
    retried: Mapping[str, float] = field(default_factory=dict)
    """Run name to the time of the request (seconds since the epoch), before which its jobs do not count."""


def new_order(
    sweep: str,
    request: JobRequest,
    elements: Sequence[Element],
    after: Sequence[str] = (),
    submitter: Submitter | None = None,
    later_than: float = 0.0,
    token: str = "",
) -> Order:
    """Return an order that is not yet written, with the current time, and with a new token unless one is given.

    `later_than` is the time of the newest order, which this one must replace even if the clock of this host is slow.
    """
    packed = request.runs > 1
    token = token or uuid.uuid4().hex[:12]
    return Order(
        token=token,
        job_name=f"{sweep}-{token}",
        created=max(time.time(), later_than + 0.001),
        processes=1 if packed else request.nodes * request.tasks_per_node,
        walltime_min=request.walltime_min,
        signal_delay_s=request.signal_delay_s,
        elements=tuple(elements),
        after=tuple(after),
        packed=packed,
        runs_per_gpu=request.runs_per_gpu,
        submitter=submitter,
    )


class JobStore:
    """Job store of one output folder."""

    def __init__(self, out: Path) -> None:
        self.folder = out.absolute() / "cluster"
        self.logs = self.folder / "logs"
        self._orders, self._launches = self.folder / "orders", self.folder / "launches"
        self._canceled, self._retried = self.folder / "canceled", self.folder / "retried"
        self._requeue = self.folder / "requeue"

    def make(self) -> None:
        """Make the folders of the store that are missing."""
        for folder in (self._orders, self._launches, self._canceled, self._retried, self._requeue, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    # ----------------------------------------------------------------------------------------- orders

    def intend(self, order: Order) -> Order:
        """Write an order that is about to be submitted, and return it."""
        write_atomically(self.order_file(order.token), record_json(order))
        return order

    def order_file(self, token: str) -> Path:
        """Return the path of an order's record."""
        return self._orders / f"{token}.json"

    def note_id(self, order: Order, job_id: str) -> Order:
        """Record the job id that the scheduler gave to an order."""
        write_atomically(self._orders / f"{order.token}.id", job_id)
        return dataclasses.replace(order, job_id=job_id)

    def abandon(self, order: Order) -> None:
        """Mark an order as abandoned; if its job starts nevertheless, it exits."""
        write_atomically(self._orders / f"{order.token}.abandoned", "")

    def note_canceled(self, order: Order, elements: Iterable[int]) -> None:
        """Add to the elements of an order that are recorded as canceled."""
        together = CanceledElements(order.canceled.union(elements))
        write_atomically(self._orders / f"{order.token}.canceled", record_json(together))

    def withdraw(self, order: Order) -> None:
        """Delete an order that the scheduler rejected; its script is kept for users to inspect."""
        self.order_file(order.token).unlink()

    def read_order(self, file: Path) -> Order:
        """Return an order with its marks, or raise `UserError` if there is none."""
        if (order := read_record(file, Order, advice=_DAMAGED_ORDER)) is None:
            raise UserError(
                f"{file}: no such file on {socket.gethostname()}; the sweep's output folder must be on a file system "
                "that all nodes share"
            )
        marks, canceled = file.with_suffix(".canceled"), frozenset[int]()
        if marks.exists():
            advice = "jobs of this order that the scheduler no longer reports on count as canceled"
            all_elements = CanceledElements(frozenset(range(len(order.elements))))
            canceled = (read_or_warn(marks, CanceledElements, advice=advice) or all_elements).elements
        return dataclasses.replace(
            order,
            canceled=canceled,
            job_id=_job_id(file.with_suffix(".id")),
            abandoned=file.with_suffix(".abandoned").exists(),
            owner_uid=file.stat().st_uid,
        )

    def orders(self, skip_damaged: bool = False) -> list[Order]:
        """Return all orders, the oldest first; raise `UserError` if one is damaged, or warn with `skip_damaged`."""
        found = list[Order]()
        for file in _files(self._orders, ".json"):
            try:
                found.append(self.read_order(file))
            except DamagedRecordError as error:
                if not skip_damaged:
                    raise
                warn_once(str(error))
            except UserError:
                if file.exists():  # otherwise it has just been withdrawn
                    raise
        return sorted(found, key=lambda order: order.created)

    def note_refused(self, words: Mapping[str, str]) -> None:
        """Replace the record of runs that the scheduler rejected, with its messages."""
        write_atomically(self.folder / "refused.json", json.dumps(words))

    def refused(self) -> dict[str, str]:
        """Return {run name: the scheduler's message} of the newest pass's rejections."""
        return read_or_warn(self.folder / "refused.json", dict[str, str], advice="the next sync rewrites it") or {}

    # --------------------------------------------------------------------------------------- launches

    def write_launch(self, launch: Launch) -> None:
        """Write or replace the record of a launch."""
        name = f"{launch.token}-{launch.element}-{launch.slot}-{launch.restart}.json"
        write_atomically(self._launches / name, record_json(launch))

    def launch(self, token: str, element: int, slot: int, restart: int) -> Launch | None:
        """Return the record of a launch, or None if there is none."""
        return _launch(self._launches / f"{token}-{element}-{slot}-{restart}.json")

    def launches(self) -> Iterator[Launch]:
        """Yield the records of all launches, in no particular order."""
        for file in _files(self._launches, ".json"):
            if re.fullmatch(r".+(-\d+){3}", file.stem) and (launch := _launch(file)):  # no stray file
                yield launch

    def start_file(self, token: str, element: int | str) -> Path:
        """Return the path of the text that an element's batch script leaves."""
        return self._launches / f"{token}-{element}.txt"

    def starts(self) -> dict[str, dict[int, str]]:
        """Return {token: {element: text that its batch script left}}."""
        found: dict[str, dict[int, str]] = {}
        for file in _files(self._launches, ".txt"):
            if (name := re.fullmatch(r"(.+)-(\d+)", file.stem)) is None:  # a stray file
                continue
            with contextlib.suppress(FileNotFoundError):  # a job that was requeued has just deleted it
                text = file.read_text(encoding="utf-8", errors="replace")
                found.setdefault(name[1], {})[int(name[2])] = text
        return found

    def log(self, token: str, element: int | str) -> Path:
        """Return the path of an element's log."""
        return self.logs / f"{token}-{element}.log"

    def requeue_file(self, token: str, element: int | str) -> Path:
        """Return the path of an element's request to be requeued."""
        return self._requeue / f"{token}-{element}"

    # ----------------------------------------------------------------------------------------- keeper

    def keeper(self) -> str | None:
        """Return the id of the newest keeper job, or None if none was recorded."""
        return _job_id(self.folder / "keeper.id")

    def note_keeper(self, job_id: str) -> None:
        """Record the id of the newest keeper job."""
        write_atomically(self.folder / "keeper.id", job_id)

    # ----------------------------------------------------------------------------------------- users' requests

    def cancel(self, runs: Iterable[str]) -> None:
        """Mark runs as canceled."""
        for run in runs:
            write_atomically(self._canceled / run, "")

    def retry(self, runs: Iterable[str]) -> None:
        """Mark runs to be retried from now on, and remove their marks of cancellation."""
        for run in runs:
            write_atomically(self._retried / run, json.dumps(time.time()))
            (self._canceled / run).unlink(missing_ok=True)

    def canceled(self, run: str) -> bool:
        """Return whether a run is marked as canceled."""
        return (self._canceled / run).exists()

    def user_requests(self) -> UserRequests:
        """Return all marks that users have made."""
        advice = "the request counts as not made: run `fgssl retry` for this run again"
        retried = {file.name: read_or_warn(file, float, advice=advice) for file in _files(self._retried)}
        return UserRequests(
            canceled=frozenset(file.name for file in _files(self._canceled)),
            retried={run: at for run, at in retried.items() if at is not None},
        )


def _files(folder: Path, suffix: str = "") -> list[Path]:
    """Return the files in a folder of the store, except temporary ones; raise `OSError` if it may not be listed."""
    try:
        return [folder / name for name in os.listdir(folder) if name.endswith(suffix) and not name.startswith(".")]
    except FileNotFoundError:
        return []


def _launch(file: Path) -> Launch | None:
    """Return the launch in a file, or None if there is none; of a damaged one, only its name is known."""
    try:
        return read_record(file, Launch, advice="the end of this job counts as not recorded")
    except DamagedRecordError as error:
        warn_once(str(error))
    token, *numbers = file.stem.rsplit("-", 3)
    element, slot, restart = map(int, numbers)
    return Launch(token, element, slot, restart, started=0.0, time_up=math.inf, nodes="", first_step=0)


def _job_id(file: Path) -> str | None:
    """Return the job id in a file, or None if there is no such file, or it is damaged."""
    try:
        job_id = file.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    if re.fullmatch(r"[\w.-]+", job_id) is None:
        warn_once(f"{file}: must hold a job id; the next sync finds the job by its name")
        return None
    return job_id
