"""Program of a job, which `hpc.local.executor` starts: it makes one run after the other.

Importing torch takes seconds, so a job takes runs of its work order until none is left that it could start. The lease
on a run folder decides between two jobs that try the same run.

    job folder/order.pickle   work order of the job
    job folder/current.json   name of the current run; it remains if the job dies
    job folder/output.log     output of the job, one run after the other
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

from fgssl.errors import LeaseError, exit_code
from fgssl.store.files import read_record, write_atomically
from hpc.sweeps.plan import SweepRun
from hpc.sweeps.state import State, states
from hpc.sweeps.submission import sweep_lives

ORDER, CURRENT, TAKING = "order.pickle", "current.json", "taking"
LOG = "output.log"
BEGINS = "---- "
"""Start of the line in a job's log at which the output of a run begins; the label and the name of the run follow."""
STOPPED = 128 + signal.SIGTERM
"""Exit status of a job that left because of TERM."""


@dataclass(frozen=True)
class WorkOrder:
    """Order to make runs. It holds no state, since all state is on disk, so a job can be started again at any time."""

    runs: tuple[SweepRun, ...]
    """Runs, each after those that it needs."""
    out: Path
    """Output folder of the sweep."""
    code: Path
    """Folder of the frozen code, which must be the code that runs."""
    job: Path
    """Folder of this job. Beside it lie the folders of the sweep's other jobs, and `alive`, locked while the sweep
    lives."""
    threads: int
    """Torch CPU threads of the process, which takes only runs with this `resources.threads`."""


def main() -> int:
    """Work on the order whose file is the program's argument; return the exit code."""
    work(pickle.loads(Path(sys.argv[1]).read_bytes()))
    return 0


def work(order: WorkOrder) -> None:
    """Make runs of the order until none is left to start.

    The first failure ends the job, since the next run in this process would fail too after a CUDA error or exhausted
    memory.
    """
    _stop_when_told()
    if not Path(__file__).is_relative_to(order.code):
        raise RuntimeError(f"{__file__} is running instead of the code frozen in {order.code}")
    from fgssl.run.execution import execute  # imports torch: not before the checks above

    held_by_others: set[str] = set()
    for run in _startable(order, held_by_others):
        print(f"{BEGINS}{run.label}: {run.run}", flush=True)
        try:
            execute(run.config, order.out)
        except LeaseError as error:
            print(error, flush=True)
            held_by_others.add(run.key)
        _stop_when_told()  # libraries and runs install handlers of their own
        (order.job / CURRENT).unlink()


def _startable(order: WorkOrder, held_by_others: set[str]) -> Iterator[SweepRun]:
    """Yield the first run that could start, after taking it for this job, until there is none or the sweep has ended.

    Jobs look and take one at a time. If two took the same run, the lease would hold back the second, but not once the
    first is killed.
    """
    done: set[str] = set()
    while sweep_lives(order.job.parent):
        with (order.job.parent / TAKING).open("a", encoding="utf-8") as turn:
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


def _stop_when_told() -> None:
    """Leave with status `STOPPED` on TERM. While a run trains, its own handler saves a checkpoint first."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(STOPPED)


if __name__ == "__main__":
    sys.exit(exit_code(main))
