"""What a job runs, on the far side of `hpc.local.executor`: one run after the other.

Importing torch and its kin costs seconds, so a job takes runs of its work order until none is left that it could start.
The lease on a run folder decides between jobs that want the same run.

    job folder/order.pickle   its work order
    job folder/current.json   name of the run at work; still there when the job died of it
"""

import fcntl
import json
import pickle
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from fgssl.errors import LeaseError
from fgssl.store.files import read_record, write_atomically
from hpc.sweeps.plan import SweepRun
from hpc.sweeps.state import State, states

ORDER, CURRENT, ALIVE, TAKING = "order.pickle", "current.json", "alive", "taking"
STOPPED = 128 + signal.SIGTERM
"""Exit status of a job that was told to stop, and did."""


@dataclass(frozen=True)
class WorkOrder:
    """Stateless, so that it can be started again at any time: all state is on disk."""

    runs: tuple[SweepRun, ...]
    """In an order in which needs come first."""
    out: Path
    code: Path
    """The frozen code that must be what runs."""
    job: Path
    """Folder of this job; beside it those of the submission's other jobs, and `alive`, locked while the sweep lives."""
    threads: int
    """A process has one number of threads: it takes the runs whose resources ask for it."""


def work(order: WorkOrder) -> None:
    """Make runs of the order until none is left to start. Leaves at the first failure: after a CUDA error or exhausted
    memory, the next run in this process would fail too."""
    _stop_when_told()
    if not Path(__file__).is_relative_to(order.code):
        raise RuntimeError(f"{__file__} is running, not the code frozen in {order.code}")
    from fgssl.run.execution import execute  # torch: only here, only now

    held_by_others: set[str] = set()
    for run in _startable(order, held_by_others):
        print(f"---- {run.label}: {run.run}", flush=True)
        try:
            execute(run.config, order.out)
        except LeaseError as error:
            print(error, flush=True)
            held_by_others.add(run.key)
        _stop_when_told()  # libraries and runs set handlers of their own
        (order.job / CURRENT).unlink()


def _startable(order: WorkOrder, held_by_others: set[str]) -> Iterator[SweepRun]:
    """Yield the first run that could start, taken by this job and looked for anew each time.

    Ends when there is none, or no sweep any more. Jobs look and take one after the other: were a run taken twice, the
    lease would hold the second job back, but not if the first one is killed.
    """
    done: set[str] = set()
    while sweep_lives(order.job.parent):
        with (order.job.parent / TAKING).open("a") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            found = states(order.runs, order.out, done=frozenset(done))
            done |= {key for key, state in found.items() if state is State.DONE}
            taken = {read_record(file, str) for file in order.job.parent.glob(f"*/{CURRENT}")}
            pending = (
                run
                for run in order.runs
                if found[run.key] is State.PENDING
                and run.config.resources.threads == order.threads
                and run.key not in held_by_others
                and run.run not in taken
            )
            if (run := next(pending, None)) is None:
                return
            write_atomically(order.job / CURRENT, json.dumps(run.run))
        yield run


def sweep_lives(submission: Path) -> bool:
    """Return whether the sweep of this submission folder still holds its lock.

    The kernel frees the lock at the sweep's death, however that came.
    """
    with (submission / ALIVE).open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _stop_when_told() -> None:
    """Leave with a status of its own on TERM. While a run trains, its own handler saves a checkpoint first."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(STOPPED)


if __name__ == "__main__":
    work(pickle.loads(Path(sys.argv[1]).read_bytes()))
