"""Work order -> job on this machine, by submitit."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.local.local import LocalExecutor, LocalJob

from fgssl.store.files import read_record
from hpc.local.launch import CURRENT, EXIT, STOPPED, CurrentRun, WorkExit, WorkOrder, work
from hpc.ranks import THREADS

_YEAR_MINUTES = 365 * 24 * 60
"""submitit ends a local job after 2 minutes unless told otherwise."""
_CONTROLLER_LOG = "controller.log"


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    clean: bool
    run: str | None
    """The run it was at when it ended otherwise."""
    reason: str
    """For people; empty when clean."""


class LocalMachine:
    """Every job is a process group of its own, so that Ctrl-C reaches the sweep alone and the sweep ends whole jobs."""

    def submit(self, order: WorkOrder, device: str | None) -> "Job":
        """Start a job; `device` is a GPU as `CUDA_VISIBLE_DEVICES` names it, or None for no choice."""
        order.job.mkdir(parents=True)
        variables = dict.fromkeys(THREADS, str(order.threads))
        if device is not None:
            variables["CUDA_VISIBLE_DEVICES"] = device
        submitter = _Submitter(order.job, order.code, variables)
        submitter.update_parameters(timeout_min=_YEAR_MINUTES)
        submitted = submitter.submit(work, order)
        return Job(order.job, submitter.process, submitted.paths.stderr)

    def cancel(self, jobs: "Sequence[Job]", grace_s: float) -> None:
        """Tell jobs to save and leave, wait, end by force what is still there after `grace_s` seconds."""
        local = [job for job in jobs if job.poll() is None]
        for job in local:
            job.process.send_signal(signal.SIGTERM)  # the controller hands it on to the work
        deadline = time.monotonic() + grace_s
        try:
            while time.monotonic() < deadline and any(job.poll() is None for job in local):
                time.sleep(0.1)
        finally:  # also after a second Ctrl-C
            for job in local:
                if job.poll() is None:
                    job.kill()


class Job:
    """A controller and the work under it; they lead a process group named by the controller's id."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", stderr: Path) -> None:
        self.folder, self.process, self._stderr = folder, process, stderr

    def poll(self) -> Outcome | None:
        """Return how it ended; None while it runs."""
        controller_status = self.process.poll()
        if controller_status is None:
            return None
        record = read_record(self.folder / EXIT, WorkExit)
        if record is None:
            self.kill()  # the controller died first: the work under it must not go on unseen
        status = record.status if record is not None else controller_status
        if status == 0 and record is not None:
            return Outcome(True, None, "")
        words = f"the job {_ending(status)}"
        for log in (self._stderr, self.folder / _CONTROLLER_LOG):
            if tail := _tail(log):
                words += f"; the end of {log}:\n{tail}"
                break
        return Outcome(False, self.current(), words)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def current(self) -> str | None:
        """Return the name of the run it is at."""
        record = read_record(self.folder / CURRENT, CurrentRun)
        return None if record is None else record.run


class _Submitter(LocalExecutor):
    """submitit's local executor, but for how the controller is started.

    Its own way shares the terminal's process group, knows GPUs by number only (no MIG) and hides them all by default.
    """

    def __init__(self, folder: Path, code: Path, variables: Mapping[str, str]) -> None:
        super().__init__(folder)
        self._code, self._variables = code, variables

    def _submit_command(self, command: str) -> "LocalJob[Any]":
        minutes = self.parameters["timeout_min"]
        environment = {
            **os.environ,
            **self._variables,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self._code), os.environ.get("PYTHONPATH")])),
            "PYTHONSAFEPATH": "1",  # the working directory's code is not the submission's
            "SUBMITIT_EXECUTOR": "local",
            "SUBMITIT_LOCAL_COMMAND": command,
            "SUBMITIT_LOCAL_NTASKS": "1",
            "SUBMITIT_LOCAL_NODEID": "0",
            "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
            "SUBMITIT_LOCAL_TIMEOUT_S": str(minutes * 60),
            "SUBMITIT_LOCAL_SIGNAL_DELAY_S": "30",
            "SUBMITIT_LOCAL_WITH_SHELL": "",
            "SUBMITIT_STDERR_TO_STDOUT": "",
        }
        with (Path(self.folder) / _CONTROLLER_LOG).open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hpc.local.launch", str(self.folder)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return LocalJob(folder=self.folder, job_id=str(self.process.pid), process=self.process)


def _ending(status: int) -> str:
    if status >= 0:
        return "was told to stop" if status == STOPPED else f"ended with exit status {status}"
    name = signal.Signals(-status).name
    return f"was killed by signal {-status} ({name})" + (": out of memory?" if -status == signal.SIGKILL else "")


def _tail(file: Path, lines: int = 30) -> str:
    try:
        return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
