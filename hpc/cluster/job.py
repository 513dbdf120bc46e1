"""Program of each process of a sweep's job, which executes a run of the order whose file is its first argument.

The batch script of the job starts it; its second argument is `JobScript.start_file`. After a restart it does only the
work that is missing.
"""

import signal

signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # its default action would kill the process before the run handles it

import contextlib
import errno
import os
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from types import TracebackType

_PASSING = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE),
        *(errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN),
    }
)
"""Error numbers of a node or a file system, which a later job may not meet; the run itself has not failed."""


def _note_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error before the run's start, as Python does, and leave its last line for `status`.

    A passing error leaves no line, which would fail the run, and exits with `EXIT_OUT_OF_HANDS`.
    """
    sys.__excepthook__(kind, error, trace)
    if _is_passing(error):
        sys.exit(os.EX_IOERR)  # EXIT_OUT_OF_HANDS, which may be what could not be imported
    with contextlib.suppress(OSError, IndexError):
        Path(sys.argv[2]).write_text(_last_line(error), encoding="utf-8")


def _is_passing(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in _PASSING


def _last_line(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip().rpartition("\n")[2]


sys.excepthook = _note_error

from fgssl.errors import (
    EXIT_INTERRUPTED,
    EXIT_OUT_OF_HANDS,
    EXIT_PEER_LOST,
    LeaseError,
    PeerLostError,
    UserError,
    exit_code,
)
from fgssl.interruption import Interrupted
from fgssl.run.process import make
from fgssl.settings import config as configs
from fgssl.store.records import TRAINED
from fgssl.store.run_folder import RunFolder
from hpc import ranks
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import ClusterRun
from hpc.cluster.job_store import JobStore, Launch, Order
from hpc.cluster.observe import newest_step
from hpc.cluster.schedulers import build_scheduler
from hpc.cluster.schedulers.scheduler import JobPlace
from hpc.sweeps.output_folder import CLUSTER_SWEEP

CANCELED = 3
"""Exit code of a job whose run was canceled, so that its dependents (`afterok`) do not start."""
_SIGNAL_GRID_S = 90.0
"""Slack of the signal before the time limit, which Slurm may send up to a minute early."""


def main() -> int:
    """Execute this process's part of the job and return its exit code."""
    order_file = Path(sys.argv[1])
    out = order_file.parents[2]
    code = os.path.abspath(out / "code")  # Python has removed every `..` from its path too
    if not Path(__file__).is_relative_to(code):
        raise RuntimeError(f"{__file__} is running instead of the code frozen in {code}")
    store = JobStore(out)
    try:
        place = build_scheduler(cluster_sweep.read(out).scheduler).place()
        order = store.read_order(order_file)
        if order.job_id is None and place.job_id and place.task == 0:  # its submitter was killed
            store.note_id(order, place.job_id)
        element, slot = order.elements[place.element], place.task if order.packed else 0
        if slot >= len(element.runs):  # the last job of an array may have fewer runs than tasks
            return 0
        name = element.runs[slot]
        if order.abandoned or store.canceled(name):
            why = "its order was abandoned and replaced" if order.abandoned else "canceled"
            print(f"{name}: {why}: nothing to do")
            return CANCELED
        before = store.launch(order.token, place.element, slot, place.restart - 1)
        if order.packed and before is not None and before.exit_code in (1, 2):
            print(f"{name}: failed before its job was requeued for other runs: nothing to do")
            store.write_launch(replace(before, restart=place.restart))  # for the next restart
            return before.exit_code
        run = _RunInJob(store, order, place, slot, name)
    except UserError as error:  # an error of this node, not of the run
        print(f"error: {error}", file=sys.stderr)
        return EXIT_OUT_OF_HANDS
    return run.work()


class _RunInJob:
    """One run's share of a job; its first process records its start and its end."""

    def __init__(self, store: JobStore, order: Order, place: JobPlace, slot: int, name: str) -> None:
        self._store, self._order, self._place, self._name = store, order, place, name
        self._out = store.folder.parent
        self._folder = RunFolder(self._out / "runs" / name)
        self._first = order.packed or place.task == 0
        self._results = _results(self._folder)
        self._failed = False
        now = time.time()
        self._launch = Launch(
            token=order.token,
            element=place.element,
            slot=slot,
            restart=place.restart,
            started=now,
            time_up=now + 60 * order.walltime_min - order.signal_delay_s - _SIGNAL_GRID_S,
            nodes=place.nodes,
            first_step=newest_step(self._folder),
        )

    def work(self) -> int:
        """Execute the run and return the exit code; an error before the run's own start is recorded with its words."""
        try:
            self._write(self._launch)
        except UserError as error:  # the disk is full
            print(f"error: {error}", file=sys.stderr)
            return EXIT_OUT_OF_HANDS
        try:
            return self._execute()
        except Exception as error:
            if not self._failed:
                self._failing(error, str(error) if isinstance(error, UserError) else _last_line(error))
            raise

    def _execute(self) -> int:
        run = _planned(self._out, self._name)
        all_configs = [configs.parse(mapping, self._name) for mapping in run.configs]
        ranks.set_threads(all_configs[0].resources.threads)
        if self._order.packed:
            processes = ranks.beside_others(self._place.local_task, self._order.runs_per_gpu)
        else:
            processes = ranks.processes(self._out, self._order.processes)
        if run.request.gpus_per_node and all_configs[0].resources.device == "auto" and not _gpu_seen():
            return self._without_gpu()
        if self._first:
            print(
                f"---- {run.label}: {self._name}, order {self._order.token}, restart {self._place.restart}", flush=True
            )
        generation = self._order.generation(self._place.restart)
        try:
            for config in all_configs:
                make(config, self._out, self._folder, processes, generation=generation, failing=self._failing)
        except Interrupted as interrupted:
            self._write(replace(self._launch, ended=time.time(), exit_code=EXIT_INTERRUPTED, signal=interrupted.number))
            # TERM may be a cancellation, so it requests no requeue: `sync` decides by the job's final state.
            came_on = newest_step(self._folder) > self._launch.first_step or _results(self._folder) > self._results
            if self._first and interrupted.number == signal.SIGUSR2 and came_on:
                self._ask_for_requeue()
            return EXIT_INTERRUPTED
        self._write(replace(self._launch, ended=time.time(), exit_code=0))
        return 0

    def _without_gpu(self) -> int:
        """Record and report a job without its GPUs, since `device: auto` would train on the CPU for days."""
        said = f"its job has GPUs, but torch finds none on {self._launch.nodes}: a broken node, or a CPU build of torch"
        self._write(replace(self._launch, ended=time.time(), exit_code=EXIT_OUT_OF_HANDS, said=said))
        print(f"error: {said}", file=sys.stderr)
        return EXIT_OUT_OF_HANDS

    def _failing(self, error: Exception, said: str = "") -> None:
        self._failed = True
        if not said:  # the run folder has the error
            sys.excepthook = sys.__excepthook__
        with contextlib.suppress(UserError):  # the disk may be full; the failure itself is reported anyway
            yielded = isinstance(error, LeaseError) and error.__cause__ is None  # otherwise its lease is unreadable
            self._write(replace(self._launch, ended=time.time(), exit_code=_code(error), said=said, yielded=yielded))

    def _ask_for_requeue(self) -> None:
        """Request a requeue from the batch script, since one from inside the step would be killed by itself."""
        if not self._store.canceled(self._name):
            self._store.requeue_file(self._order.token, self._place.element).touch()

    def _write(self, launch: Launch) -> None:
        if self._first:
            self._store.write_launch(launch)


def _gpu_seen() -> bool:
    import torch  # imported late: jobs without GPUs do not need it here

    return torch.cuda.is_available()


def _results(folder: RunFolder) -> int:
    """Return the number of result files, of the training and of evaluations."""
    return len([*folder.path.glob(TRAINED), *folder.path.glob("evaluation-*.json")])


def _planned(out: Path, name: str) -> ClusterRun:
    for run in cluster_sweep.read(out).runs:
        if run.run == name:
            return run
    raise UserError(f"{out / CLUSTER_SWEEP}: has no run {name}, since the sweep was submitted again without it")


def _code(error: Exception) -> int:
    if isinstance(error, PeerLostError):
        return EXIT_PEER_LOST
    if isinstance(error, LeaseError) or _is_passing(error) or _is_passing(error.__cause__):
        return EXIT_OUT_OF_HANDS
    return 2 if isinstance(error, UserError) else 1


if __name__ == "__main__":
    sys.exit(exit_code(main))
