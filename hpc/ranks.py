"""Rank of this process in its run, from the environment of torchrun, `accelerate launch` or a scheduler.

Accelerate and torch read RANK, WORLD_SIZE, MASTER_ADDR and similar variables. A scheduler's own launcher, such as srun,
sets none of them, so this module does.
"""

import atexit
import contextlib
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fgssl.errors import UserError
from fgssl.processes import ALONE, Processes
from fgssl.store.files import awaited, read_record, record_json, write_atomically
from hpc.cluster.schedulers import SCHEDULERS, build_scheduler
from hpc.cluster.schedulers.scheduler import JobPlace, Scheduler
from hpc.environment import is_of_launcher, number_of

_TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_MASTER = ("MASTER_ADDR", "MASTER_PORT")
_OF_ACCELERATE = "ACCELERATE_MIXED_PRECISION"
"""Variable that every `accelerate launch` sets."""
_OF_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables with the number of processes that mpirun or a PMI launcher started."""
VISIBLE_GPUS = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PATIENCE_S = 300.0
"""Longest wait for rank 0; processes start minutes apart if all nodes load Python from a slow file system."""

_NUMBER_IS_SET_BY = {
    "python": "plain Python is one process, so launch it with torchrun, `accelerate launch` or srun",
    "torchrun": "it starts --nproc-per-node on each of --nnodes",
    "accelerate launch": "it starts --num_processes in all with a file of hpc/accelerate, and only one with --cpu",
    "WORLD_SIZE": "your script sets it",
}


def processes(out: Path, expected: int | None) -> Processes:
    """Return the ranks of this process; call it once, before torch initializes its process group.

    If a scheduler's launcher started the processes, they exchange rank 0's address by a file in `out`, which all nodes
    must share. Raises `UserError` if the environment contradicts itself or `expected`, since processes would then
    train copies of the same run.
    """
    jobs = [_Job(scheduler, scheduler.place()) for scheduler in map(build_scheduler, SCHEDULERS)]
    job = next((job for job in jobs if job.place.started or job.place.asked > 1 or job.place.node_count > 1), None)
    found = _of_torch(job) if any(name in os.environ for name in _TORCH) else _of_job_or_alone(job)
    ours = job if job is not None and found.launcher == job.scheduler.launcher else None
    if expected is not None and found.world_size != expected:
        how = f"it starts {ours.scheduler.launcher_option}" if ours else _NUMBER_IS_SET_BY[found.launcher]
        raise UserError(
            f"resources.expected_processes is {expected}, but the world size is {found.world_size} "
            f"(from {found.launcher}): change the setting or start another number of processes ({how})"
        )
    if ours is not None and found.world_size > 1:
        _export(found, *_meeting_point(out, ours.place, first=found.rank == 0))
    return found


def require_engine(engine: str) -> None:
    """Raise `UserError` for options of `accelerate launch` that fgssl ignores, since a run's settings decide."""
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")  # Accelerate's own default
    for kind, wanted in {"DEEPSPEED": f"zero{stage}", "FSDP": "zero3", "MEGATRON_LM": "zero3"}.items():
        if os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() == "true":
            also = "" if engine == wanted else f", and set resources.engine={wanted} (now {engine})"
            raise UserError(
                f"`accelerate launch` has distributed_type: {kind}, but must have MULTI_GPU, since fgssl builds the "
                f"engine itself: use hpc/accelerate/deepspeed.yaml{also}"
            )
    for variable, told, setting in (
        (_OF_ACCELERATE, "mixed_precision", "set training.precision instead"),
        ("ACCELERATE_DYNAMO_BACKEND", "dynamo_backend", "fgssl compiles nothing"),
    ):
        if (value := os.environ.get(variable, "no").lower()) != "no":
            raise UserError(f"`accelerate launch` has {told}: {value}, but must have `no`: {setting}")


def free_port() -> int:
    """Return a free port of this node, below the range of outgoing connections, which starts at 32768."""
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_768)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port
    raise UserError(
        f"{socket.gethostname()}: no free port between 20000 and 32767; export MASTER_PORT to choose another one"
    )


def set_threads(number: int) -> None:
    """Set the number of threads of the numeric libraries, which read it when they are imported."""
    os.environ.update(dict.fromkeys(THREADS, str(number)))


def beside_others(local_task: int, share_gpu: int) -> Processes:
    """Return the process of a single-process run that shares its job with other runs.

    It is process `local_task` on its node, where `share_gpu` processes share each GPU; the environment is narrowed to
    its own GPU.
    """
    for name in filter(is_of_launcher, list(os.environ)):
        del os.environ[name]  # Accelerate would count the other runs as processes of this one
    for name in VISIBLE_GPUS:
        if devices := [device for device in os.environ.get(name, "").split(",") if device]:
            os.environ[name] = devices[local_task // share_gpu % len(devices)]
            break  # one is enough, since CUDA and HIP number the GPUs that ROCr leaves visible
    return ALONE


# --------------------------------------------------------------------------------------- launchers


class _Job(NamedTuple):
    """Scheduler's job of this process."""

    scheduler: Scheduler
    place: JobPlace


def _of_torch(job: _Job | None) -> Processes:
    launcher = "WORLD_SIZE"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = "accelerate launch" if _OF_ACCELERATE in os.environ else "torchrun"
    if missing := [name for name in (*_TORCH, *_MASTER) if name not in os.environ]:
        present = [name for name in _TORCH if name in os.environ]
        raise UserError(
            f"the environment has {', '.join(present)} but not {', '.join(missing)}: unset them, since torchrun, "
            "`accelerate launch` and srun need none of them, and neither does a single process"
        )
    rank, world_size, local_rank, local_world_size = map(number_of, _TORCH)
    if not (rank < world_size and local_rank < local_world_size <= world_size):
        values = ", ".join(f"{name}={os.environ[name]}" for name in _TORCH)
        raise UserError(
            f"the environment contradicts itself: {values}; a rank must be at least 0 and less than its size"
        )
    launchers = number_of("GROUP_WORLD_SIZE", world_size)  # the number of torchrun launchers that joined the rendezvous
    if job is not None and launchers < (tasks := job.place.started):
        raise UserError(
            f"{job.scheduler.launcher} started {tasks} tasks, but only {launchers} joined the rendezvous: the others "
            "would train copies of the run. Give each launcher the number of nodes, as slurm/train_accelerate.sbatch "
            f"does, or start the run with {job.scheduler.launcher} alone"
        )
    return Processes(rank, world_size, local_rank, local_world_size, launcher)


def _of_job_or_alone(job: _Job | None) -> Processes:
    found = Processes(launcher="accelerate launch" if _OF_ACCELERATE in os.environ else "python")
    if _OF_ACCELERATE in os.environ and _MASTER[0] in os.environ:
        raise UserError(
            "`accelerate launch` has options for several processes but started one, as it does with --cpu: use "
            "--config_file hpc/accelerate/cpu.yaml, or unset MASTER_ADDR for a single process"
        )
    # A shell on a node, and a job submitted from it, have variables of the shell's step, which has one task.
    if job is not None:
        (scheduler, place), launcher = job, job.scheduler.launcher
        if place.started == place.asked:
            found = Processes(place.task, place.started, place.local_task, place.local_started, launcher)
        elif place.asked > 1 or place.node_count > 1:
            raise UserError(
                f"the job has {place.asked} tasks on {place.node_count} nodes, but {launcher} did not start this "
                f"process, which would train alone. {scheduler.launcher_advice}"
            )
    for name in _OF_MPI:
        if (size := number_of(name, found.world_size)) != found.world_size:
            raise UserError(
                f"{name} is {size}, but the world size is {found.world_size} (from {found.launcher}): mpirun is not "
                "supported; start the run with srun, torchrun or `accelerate launch`"
            )
    return found


# ------------------------------------------------------------------------------------- rendezvous


def _meeting_point(out: Path, place: JobPlace, first: bool) -> tuple[str, int]:
    """Return the address and port of rank 0, which rank 0 chooses and writes to a file."""
    job = f"job-{place.job_id}-{place.element}-launch-"
    launch = f"{job}{place.restart}-"
    file = out / "rendezvous" / f"{launch}step-{place.step}.json"
    if first:
        _publish(file, place.node)
        for old in file.parent.glob(f"{job}*"):
            if not old.name.startswith(launch):
                old.unlink(missing_ok=True)
    point = awaited(lambda: read_record(file, _MeetingPoint), [file.parent], _PATIENCE_S)
    if point is None:
        raise UserError(
            f"{file}: rank 0 has not written this file for {_PATIENCE_S:.0f} s. Either it failed (see its log), or "
            "--out is not on a file system that all nodes share"
        )
    try:
        socket.getaddrinfo(point.address, point.port)
    except OSError as error:  # torch would retry silently for half an hour
        raise UserError(
            f"{socket.gethostname()} cannot resolve rank 0's node {point.address} ({error.strerror}): export "
            "MASTER_ADDR in the batch script, as a name or address under which the other nodes can reach rank 0"
        ) from error
    return point.address, point.port


@dataclass(frozen=True)
class _MeetingPoint:
    address: str
    port: int


def _publish(file: Path, node: str) -> None:
    address = os.environ.get("MASTER_ADDR") or node
    port = number_of("MASTER_PORT", free_port())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{file.parent}: cannot create the folder: {error.strerror}; choose another --out") from error
    write_atomically(file, record_json(_MeetingPoint(address, port)))
    atexit.register(file.unlink, missing_ok=True)


def _export(place: Processes, address: str, port: int) -> None:
    numbers = (place.rank, place.world_size, place.local_rank, place.local_world_size)
    os.environ.update(zip(_TORCH, map(str, numbers), strict=True))
    os.environ.update(zip(_MASTER, (address, str(port)), strict=True))
