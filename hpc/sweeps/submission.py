"""Submission of a sweep on this machine: a folder of its jobs, in which a lock is held while the sweep lives."""

import contextlib
import fcntl
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

ALIVE = "alive"
_STARTING = "starting"


@contextlib.contextmanager
def starting(out: Path) -> Iterator[None]:
    """Keep other sweeps from starting in `out` within the context, in which one checks the plan and writes its own."""
    (out / "jobs").mkdir(parents=True, exist_ok=True)
    with (out / "jobs" / _STARTING).open("a", encoding="utf-8") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def submission_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder for the jobs' records; the sweep lives within the context."""
    submission = out / "jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    submission.mkdir(parents=True)
    with (submission / ALIVE).open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield submission


def sweep_lives(submission: Path) -> bool:
    """Return whether the sweep still holds its lock, which the kernel frees however the sweep ends."""
    with (submission / ALIVE).open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def any_sweep_lives(out: Path) -> bool:
    """Return whether a sweep on this machine is at work in the output folder `out`, or is starting its first job."""
    return any(sweep_lives(file.parent) for file in out.glob(f"jobs/*/{ALIVE}"))
