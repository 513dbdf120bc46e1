"""Start of jobs on this machine: each is a process that makes the runs of its work order (`hpc.local.launch`)."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fgssl.store.files import read_record
from hpc.environment import outside_launcher
from hpc.local.launch import CURRENT, LOG, ORDER, STOPPED, WorkOrder
from hpc.ranks import THREADS


@dataclass(frozen=True)
class Outcome:
    """Ending of a job."""

    clean: bool
    """Whether the job left with exit status 0."""
    run: str | None
    """Name of the run during which the job ended, or None if it was clean or had not begun a run."""
    reason: str
    """Explanation for users, or empty if clean."""


class LocalMachine:
    """This machine, on which every job is a process group of its own.

    So Ctrl-C reaches the sweep alone, and the sweep can end a whole job.
    """

    def submit(self, order: WorkOrder, device: str | None) -> "Job":
        """Start a job; `device` is a GPU as `CUDA_VISIBLE_DEVICES` names it, or None to leave the choice open."""
        order.job.mkdir(parents=True)
        (order.job / ORDER).write_bytes(pickle.dumps(order))
        environment = {
            **outside_launcher(),
            **dict.fromkeys(THREADS, str(order.threads)),
            **({} if device is None else {"CUDA_VISIBLE_DEVICES": device}),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(order.code), os.environ.get("PYTHONPATH")])),
            "PYTHONIOENCODING": "utf-8:backslashreplace",  # of the log, whatever the locale
            "PYTHONSAFEPATH": "1",  # else code in the working directory would come before the frozen code
        }
        with (order.job / LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "hpc.local.launch", str(order.job / ORDER)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Job(order.job, process)

    def cancel(self, jobs: "Sequence[Job]", grace_s: float) -> None:
        """Signal jobs to save and leave, wait, and kill those that are left after `grace_s` seconds."""
        local = [job for job in jobs if job.poll() is None]
        for job in local:
            job.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        try:
            while time.monotonic() < deadline and any(job.poll() is None for job in local):
                time.sleep(0.1)
        finally:  # also after a second Ctrl-C
            for job in local:
                if job.poll() is None:
                    job.kill()


class Job:
    """Process that makes runs and leads a process group of its own."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.folder, self.process = folder, process

    def poll(self) -> Outcome | None:
        """Return how the job ended, or None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        if status == 0:
            return Outcome(True, None, "")
        log = self.folder / LOG
        return Outcome(False, self.current(), f"the job {_ending(status)}; the end of {log}:\n{_tail(log)}")

    def kill(self) -> None:
        """Kill the process group and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def current(self) -> str | None:
        """Return the name of the run that the job is making, or was making when it died; None between two runs."""
        return read_record(self.folder / CURRENT, str)


def _ending(status: int) -> str:
    if status >= 0:
        return "was stopped by a signal" if status == STOPPED else f"ended with exit status {status}"
    name = signal.Signals(-status).name
    return f"was killed by signal {-status} ({name})" + (": out of memory?" if -status == signal.SIGKILL else "")


def _tail(file: Path, lines: int = 30) -> str:
    return "\n".join(file.read_text(errors="replace", encoding="utf-8").splitlines()[-lines:])
