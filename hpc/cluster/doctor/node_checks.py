"""Program of each process of the doctor's job.

`python -m hpc.cluster.doctor.node_checks FOLDER SCHEDULER [SCRATCH ...]` writes:

FOLDER/task-<rank>.json    findings of a process, written again after the doctor's USR2 or its timeout
FOLDER/meeting.json        address at which the first node listens for the second one
FOLDER/note, lock          files by which the two nodes check that they share files and file locks
FOLDER/restarted.json      mark of a job that was requeued and started again
FOLDER/requeue.txt         error of the scheduler, if it did not requeue the job (written by the batch script)
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from fgssl.errors import UserError
from fgssl.store.files import awaited, read_record, record_json, write_atomically
from hpc.cluster.schedulers import build_scheduler
from hpc.cluster.schedulers.scheduler import Scheduler
from hpc.ranks import VISIBLE_GPUS, free_port

_PATIENCE_S = 60.0
"""Longest wait of one node for the other."""
_SIGNAL_PATIENCE_S = 300.0
"""Longest wait for USR2, which the doctor sends once all processes, some of which import torch, have findings."""
_PUBLIC = ("example.org", 443)
"""Public server by which internet access is checked."""
_INTERNET_S = 3.0
_ADDRESS_OF_INTERFACE = 0x8915
"""Request SIOCGIFADDR of netdevice(7)."""


@dataclass(frozen=True)
class Scratch:
    """Local scratch folder of a node."""

    name: str
    """Name of the folder, with variables of the shell."""
    folder: str
    free_gb: float
    kind: str
    """Type of the file system, e.g. tmpfs."""


@dataclass(frozen=True)
class Meeting:
    """Meeting of the two nodes: the address of the first, and the observations of the second."""

    host: str
    port: int
    interface: str = ""
    """Name and address of the network interface of the connection."""
    visible_after_s: float | None = None
    """Time until the first node's new file was visible on the second, or None if it never was."""
    locked_out: bool | None = None
    """Whether a file lock of the first node was effective on the second, or None if files cannot be locked."""
    error: str = ""


@dataclass(frozen=True)
class Task:
    """Findings of one process."""

    rank: int
    node: str
    python: str
    cores: tuple[str, ...]
    """Cores on which the process may run, each as the list of its hardware threads."""
    memory_mb: int | None
    """Memory of the job on this node, or None if the scheduler does not report it."""
    gpus: tuple[str, ...] | None
    """Visible GPUs according to the environment, or None if it has no such variable."""
    torch_gpus: str = ""
    """Number of GPUs that torch finds, or its error; empty if torch was not run or is not installed."""
    internet: bool | None = None
    """Whether a public server is reachable, or None if this process did not check."""
    submission: str | None = None
    """Error of a test submission from this job, empty if it succeeded, or None if this process did not check."""
    scratch: Scratch | None = None
    meeting: Meeting | None = None
    signaled: bool = False
    """Whether the process received USR2."""


def read_tasks(folder: Path) -> list[Task]:
    """Return the findings of all processes so far, in order of rank."""
    os.listdir(folder)  # refreshes the cache of a network file system
    tasks = (read_record(file, Task) for file in sorted(folder.glob("task-*.json")))
    return [task for task in tasks if task is not None]


def main() -> int:
    """Run the checks, write the findings and wait for USR2; after a restart, only leave a mark."""
    told = threading.Event()
    signal.signal(signal.SIGUSR2, lambda *_: told.set())
    folder, scheduler = Path(sys.argv[1]), build_scheduler(sys.argv[2])
    place = scheduler.place()
    rank, first_of_node, meeting = place.task, place.local_task == 0, None
    if place.restart > 0:
        if rank == 0:
            write_atomically(folder / "restarted.json", json.dumps({"node": place.node}))
        return 0
    if first_of_node and place.node_number == 0:
        _host(folder, place.node)
    elif first_of_node and place.node_number == 1:
        meeting = _visit(folder)
    gpus = next((os.environ[name] for name in VISIBLE_GPUS if name in os.environ), None)
    task = Task(
        rank=rank,
        node=place.node,
        python=platform.python_version(),
        cores=_cores(),
        memory_mb=place.memory_mb,
        gpus=tuple(filter(None, gpus.split(","))) if gpus is not None else None,
        torch_gpus=_gpus_of_torch() if first_of_node and gpus is not None else "",
        internet=_internet() if rank == 0 else None,
        submission=_submission(folder / "job.sh", scheduler) if rank == 0 else None,
        scratch=_scratch(sys.argv[3:]) if first_of_node else None,
        meeting=meeting,
    )
    _write(folder, task)
    _write(folder, replace(task, signaled=told.wait(_SIGNAL_PATIENCE_S)))
    return 0


def _write(folder: Path, task: Task) -> None:
    write_atomically(folder / f"task-{task.rank:04}.json", record_json(task))


# ---------------------------------------------------------------------------------------- between nodes


def _host(folder: Path, node: str) -> None:
    """Lock a file, write another one, and notify the second node by the network, so that clocks need not agree."""
    port = free_port()
    with socket.create_server(("", port)) as server, (folder / "lock").open("w", encoding="utf-8") as lock:
        server.settimeout(_PATIENCE_S)
        write_atomically(folder / "meeting.json", record_json(Meeting(node, port)))
        with contextlib.suppress(OSError):  # the second node reports the error
            connection, _ = server.accept()
            connection.settimeout(_PATIENCE_S)
            with connection, connection.makefile("rw") as line:
                with contextlib.suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                content = uuid.uuid4().hex
                (folder / "note").write_text(content, encoding="utf-8")
                _say(line, content)
                line.readline()


def _visit(folder: Path) -> Meeting:
    first = awaited(lambda: read_record(folder / "meeting.json", Meeting), [folder], _PATIENCE_S)
    if first is None:
        return Meeting("", 0, error="the file of the first node did not appear")
    try:
        connection = socket.create_connection((first.host, first.port), timeout=_PATIENCE_S)
        with connection, connection.makefile("rw") as line:
            content, since = line.readline().strip(), time.monotonic()
            note = folder / "note"
            seen = awaited(
                lambda: note.exists() and note.read_text(encoding="utf-8") == content,
                [folder],
                _PATIENCE_S,
                pause_s=0.02,
            )
            visible_after_s = round(time.monotonic() - since, 2) if seen else None
            locked_out = _locked_out(folder / "lock")
            _say(line, "done")
            return Meeting(first.host, first.port, _interface(connection), visible_after_s, locked_out)
    except OSError as error:
        return replace(first, error=f"{first.host}, port {first.port}: {error}")


def _say(line: IO[str], words: str) -> None:
    line.write(f"{words}\n")
    line.flush()


def _locked_out(file: Path) -> bool | None:
    with file.open("r+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
    return False


def _interface(connection: socket.socket) -> str:
    """Return the name and address of a connection's network interface, e.g. `hsn0 10.1.2.3`."""
    address = connection.getsockname()[0].removeprefix("::ffff:")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # interfaces without an address fail
                answer = fcntl.ioctl(asked, _ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return f"{name} {address}"
    return str(address)


# ----------------------------------------------------------------------------------------------- on a node


def _cores() -> tuple[str, ...]:
    """Return the cores on which this process may run, each as its list of hardware threads."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text(encoding="utf-8").strip() if siblings.exists() else str(cpu))
    return tuple(sorted(cores))


def _gpus_of_torch() -> str:
    """Return the number of GPUs that torch finds in a separate process, since torch occupies GPU memory."""
    if importlib.util.find_spec("torch") is None:
        return ""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    try:
        answer = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=2 * _PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return "no answer within minutes"
    return (answer.stdout.strip() or answer.stderr.strip()).rpartition("\n")[2]


def _submission(script: Path, scheduler: Scheduler) -> str:
    try:
        return scheduler.why_not(script)
    except UserError as error:
        return str(error)


def _internet() -> bool:
    """Return whether a public server answers; a thread limits the time, since name resolution has no timeout."""
    reached = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError), socket.create_connection(_PUBLIC, timeout=_INTERNET_S):
            reached.set()

    threading.Thread(target=connect, daemon=True).start()
    return reached.wait(2 * _INTERNET_S)


def _scratch(names: Sequence[str]) -> Scratch | None:
    """Return the first of these folders that is writable, or None if none is."""
    for name in names:
        folder = os.path.expandvars(name)
        with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"0" * 2**20)
            file.flush()
            listed = Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
            mounts = [line.split()[1:3] for line in listed.splitlines()]
            inside = [(len(place), kind) for place, kind in mounts if Path(folder).resolve().is_relative_to(place)]
            return Scratch(name, folder, round(shutil.disk_usage(folder).free / 1e9, 1), max(inside)[1])
    return None


if __name__ == "__main__":
    sys.exit(main())
