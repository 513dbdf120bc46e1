"""Which process of a run this one is, by what torchrun, `accelerate launch` or a scheduler leave in the environment.

Accelerate and torch look for RANK, WORLD_SIZE, MASTER_ADDR and their kin there. A scheduler's own launcher, such as
srun, sets none of them: here they are.
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
from hpc.environment import number_of

_TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_MASTER = ("MASTER_ADDR", "MASTER_PORT")
_OF_ACCELERATE = "ACCELERATE_MIXED_PRECISION"
"""Set by every `accelerate launch`."""
_OF_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
VISIBLE_GPUS = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PATIENCE_S = 300.0
"""Processes begin that far apart where a slow file system serves Python to all nodes."""

_NUMBER_IS_SET_BY = {
    "python": "plain Python is one process, so start it with torchrun, `accelerate launch` or srun",
    "torchrun": "it starts --nproc-per-node on each of --nnodes",
    "accelerate launch": "it starts --num_processes in all with a file of hpc/accelerate, and only one with --cpu",
    "WORLD_SIZE": "it is what your script says",
}


def processes(out: Path, expected: int | None) -> Processes:
    """This process's place among those that were started together; call it once, before torch joins them.

    Where a scheduler's launcher started them, they agree on where to meet by a file in `out`, which all nodes must
    share. Raises `UserError` where the environment contradicts itself or `expected`: else processes would train the
    same run beside each other.
    """
    jobs = [_Job(scheduler, scheduler.place()) for scheduler in map(build_scheduler, SCHEDULERS)]
    job = next((job for job in jobs if job.place.started or job.place.asked > 1 or job.place.node_count > 1), None)
    found = _of_torch(job) if any(name in os.environ for name in _TORCH) else _of_job_or_alone(job)
    ours = job if job is not None and found.launcher == job.scheduler.launcher else None
    if expected is not None and found.world_size != expected:
        how = f"it starts {ours.scheduler.launcher_option}" if ours else _NUMBER_IS_SET_BY[found.launcher]
        raise UserError(
            f"resources.expected_processes is {expected}, but {found.launcher} says {found.world_size}: change the "
            f"setting or the number that is started ({how})"
        )
    if ours is not None and found.world_size > 1:
        _export(found, *_meeting_point(out, ours.place, first=found.rank == 0))
    return found


def require_engine(engine: str) -> None:
    """Refuse what `accelerate launch` was told to do and will not be done, for a run's settings alone decide it."""
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")  # Accelerate's own default
    for kind, wanted in {"DEEPSPEED": f"zero{stage}", "FSDP": "zero3", "MEGATRON_LM": "zero3"}.items():
        if os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() == "true":
            also = "" if engine == wanted else f", and set resources.engine={wanted} (it is {engine})"
            raise UserError(
                f"`accelerate launch` was told distributed_type: {kind}, but fgssl makes its engine itself: tell it "
                f"MULTI_GPU instead, as hpc/accelerate/deepspeed.yaml does{also}"
            )
    for variable, told, setting in (
        (_OF_ACCELERATE, "mixed_precision", "set training.precision"),
        ("ACCELERATE_DYNAMO_BACKEND", "dynamo_backend", "nothing is compiled"),
    ):
        if (value := os.environ.get(variable, "no").lower()) != "no":
            raise UserError(f"`accelerate launch` was told {told}: {value}: take `no` there; {setting}")


def free_port() -> int:
    """A free port of this node, below those that the kernel lends to outgoing connections (from 32768 on)."""
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_768)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port
    raise UserError(f"{socket.gethostname()}: no free port between 20000 and 32767; export MASTER_PORT")


def set_threads(number: int) -> None:
    """Of the numeric libraries, before they are imported."""
    os.environ.update(dict.fromkeys(THREADS, str(number)))


def beside_others(local_task: int, share_gpu: int) -> Processes:
    """Return the one process of a run beside others of the job on its node, of which so many share a GPU.

    It is number `local_task` among them.
    """
    for name in [name for name in os.environ if name.startswith(("PMI_", "PMIX_"))]:
        del os.environ[name]  # Accelerate would take the others for processes of this run
    for name in VISIBLE_GPUS:
        if devices := [device for device in os.environ.get(name, "").split(",") if device]:
            os.environ[name] = devices[local_task // share_gpu % len(devices)]
            break  # they narrow each other: CUDA's and HIP's count among those that are left of ROCr's
    return ALONE


# --------------------------------------------------------------------------------------- what was started


class _Job(NamedTuple):
    """The scheduler's job that this process is in."""

    scheduler: Scheduler
    place: JobPlace


def _of_torch(job: _Job | None) -> Processes:
    launcher = "WORLD_SIZE"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = "accelerate launch" if _OF_ACCELERATE in os.environ else "torchrun"
    if missing := [name for name in (*_TORCH, *_MASTER) if name not in os.environ]:
        present = [name for name in _TORCH if name in os.environ]
        raise UserError(
            f"the environment has {', '.join(present)} but not {', '.join(missing)}: torchrun, `accelerate launch` and "
            "srun need none of them set by hand; for one process, unset them"
        )
    rank, world_size, local_rank, local_world_size = map(number_of, _TORCH)
    if not (rank < world_size and local_rank < local_world_size <= world_size):
        values = ", ".join(f"{name}={os.environ[name]}" for name in _TORCH)
        raise UserError(f"the environment contradicts itself: {values}; ranks count from 0 and end before the size")
    launchers = number_of("GROUP_WORLD_SIZE", world_size)  # torchrun's word: how many of itself found each other
    if job is not None and launchers < (tasks := job.place.started):
        raise UserError(
            f"{job.scheduler.launcher} started {tasks} tasks, but only {launchers} found each other: each would train "
            "a run of its own. Tell every launcher of all nodes, as slurm/train_accelerate.sbatch does, or start the "
            f"run by {job.scheduler.launcher} alone"
        )
    return Processes(rank, world_size, local_rank, local_world_size, launcher)


def _of_job_or_alone(job: _Job | None) -> Processes:
    found = Processes(launcher="accelerate launch" if _OF_ACCELERATE in os.environ else "python")
    if _OF_ACCELERATE in os.environ and _MASTER[0] in os.environ:
        raise UserError(
            "`accelerate launch` was told of several processes but started one, as it does with --cpu: launch with "
            "--config_file hpc/accelerate/cpu.yaml; if one is meant, unset MASTER_ADDR"
        )
    # A shell on a node, and a job submitted from one, hold variables of that shell's step: of one task, not of the job.
    if job is not None:
        (scheduler, place), launcher = job, job.scheduler.launcher
        if place.started == place.asked:
            found = Processes(place.task, place.started, place.local_task, place.local_started, launcher)
        elif place.asked > 1 or place.node_count > 1:
            raise UserError(
                f"the job asks for {place.asked} tasks on {place.node_count} nodes, but {launcher} did not start this "
                f"process: it would train alone. {scheduler.launcher_advice}"
            )
    for name in _OF_MPI:
        if (size := number_of(name, found.world_size)) != found.world_size:
            raise UserError(
                f"{name} is {size}, but {found.launcher} says {found.world_size}: mpirun is not known here; start the "
                "run with srun, torchrun or `accelerate launch`"
            )
    return found


# ------------------------------------------------------------------------------------- meeting in a job's step


def _meeting_point(out: Path, place: JobPlace, first: bool) -> tuple[str, int]:
    """Return the address and port at which rank 0 will listen; it chooses them and writes them to a file."""
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
            f"{file}: rank 0 has not written it for {_PATIENCE_S:.0f} s. Either it failed (see its messages), or --out "
            "is not on a file system that all nodes share"
        )
    try:
        socket.getaddrinfo(point.address, point.port)
    except OSError as error:  # torch would try again and again for half an hour, and say nothing
        raise UserError(
            f"{socket.gethostname()} cannot find rank 0's node {point.address} ({error.strerror}): export MASTER_ADDR, "
            "the name or address by which the other nodes reach it, in the batch script"
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
        raise UserError(f"{file.parent}: cannot be made: {error.strerror}; choose another --out") from error
    write_atomically(file, record_json(_MeetingPoint(address, port)))
    atexit.register(file.unlink, missing_ok=True)


def _export(place: Processes, address: str, port: int) -> None:
    numbers = (place.rank, place.world_size, place.local_rank, place.local_world_size)
    os.environ.update(zip(_TORCH, map(str, numbers), strict=True))
    os.environ.update(zip(_MASTER, (address, str(port)), strict=True))
