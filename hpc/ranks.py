"""Which process of a run this one is, as torchrun, `accelerate launch`, srun or plain Python say in the environment.

Accelerate and torch look for RANK, WORLD_SIZE, MASTER_ADDR and their kin there. srun sets none of them: here they are.
"""

import atexit
import contextlib
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from fgssl.errors import UserError
from fgssl.processes import ALONE, Processes
from fgssl.store.files import awaited, read_record, record_json, write_atomically

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
    "srun": "it starts --ntasks",
    "WORLD_SIZE": "it is what your script says",
}


def processes(out: Path, expected: int | None) -> Processes:
    """This process's place among those that were started together; call it once, before torch joins them.

    Under srun they agree on where to meet by a file in `out`, which all nodes must share. Raises `UserError` where the
    environment contradicts itself or `expected`: else processes would train the same run beside each other.
    """
    place = _of_launcher() if any(name in os.environ for name in _TORCH) else _of_srun_or_alone()
    if expected is not None and place.world_size != expected:
        raise UserError(
            f"resources.expected_processes is {expected}, but {place.launcher} says {place.world_size}: change the "
            f"setting or the number that is started ({_NUMBER_IS_SET_BY[place.launcher]})"
        )
    if place.launcher == "srun" and place.world_size > 1:
        _export(place, *_meeting_point(out, first=place.rank == 0))
    return place


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


def beside_others(share_gpu: int) -> Processes:
    """One process of a job whose others train runs of their own; so many of them share a GPU."""
    for name in [name for name in os.environ if name.startswith(("PMI_", "PMIX_"))]:
        del os.environ[name]  # Accelerate would take the others for processes of this run
    for name in VISIBLE_GPUS:
        if devices := [device for device in os.environ.get(name, "").split(",") if device]:
            os.environ[name] = devices[number_of("SLURM_LOCALID") // share_gpu % len(devices)]
            break  # they narrow each other: CUDA's and HIP's count among those that are left of ROCr's
    return ALONE


# --------------------------------------------------------------------------------------- what was started


def _of_launcher() -> Processes:
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
    tasks = number_of("SLURM_STEP_NUM_TASKS", 1)
    launchers = number_of("GROUP_WORLD_SIZE", world_size)  # torchrun's word: how many of itself found each other
    if launchers < tasks:
        raise UserError(
            f"srun started {tasks} tasks, but only {launchers} found each other: each would train a run of its own. "
            "Tell every launcher of all nodes, as slurm/train_accelerate.sbatch does, or start the run by srun alone"
        )
    return Processes(rank, world_size, local_rank, local_world_size, launcher)


def _of_srun_or_alone() -> Processes:
    asked, nodes = number_of("SLURM_NTASKS", 1), number_of("SLURM_JOB_NUM_NODES", 1)
    place = Processes(launcher="accelerate launch" if _OF_ACCELERATE in os.environ else "python")
    if _OF_ACCELERATE in os.environ and _MASTER[0] in os.environ:
        raise UserError(
            "`accelerate launch` was told of several processes but started one, as it does with --cpu: launch with "
            "--config_file hpc/accelerate/cpu.yaml; if one is meant, unset MASTER_ADDR"
        )
    # A shell on a node, and a job submitted from one, hold variables of that shell's step: of one task, not of the job.
    if "SLURM_STEP_NUM_TASKS" in os.environ and number_of("SLURM_STEP_NUM_TASKS") == number_of("SLURM_NTASKS", 1):
        on_this_node = len(os.environ["SLURM_GTIDS"].split(","))
        place = Processes(number_of("SLURM_PROCID"), asked, number_of("SLURM_LOCALID"), on_this_node, "srun")
    elif asked > 1 or nodes > 1:
        raise UserError(
            f"the Slurm job asks for {asked} tasks on {nodes} nodes, but srun did not start this process: it would "
            "train alone. Begin the line with srun, as slurm/train_several_nodes.sbatch does; for one process, with "
            "`srun --nodes=1 --ntasks=1`"
        )
    for name in _OF_MPI:
        if (size := number_of(name, place.world_size)) != place.world_size:
            raise UserError(
                f"{name} is {size}, but {place.launcher} says {place.world_size}: mpirun is not known here; start the "
                "run with srun, torchrun or `accelerate launch`"
            )
    return place


def number_of(name: str, otherwise: int | None = None) -> int:
    """Return a whole number from the environment."""
    text = os.environ.get(name, otherwise)
    try:
        number = int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise UserError(
            f"the environment has {name}={text}, which is no whole number from 0: unset it, or see who set it"
        )
    return number


# -------------------------------------------------------------------------------------- meeting under srun


def _meeting_point(out: Path, first: bool) -> tuple[str, int]:
    """Address and port at which rank 0 will listen; it chooses them and writes them to a file of this launch."""
    job, step = os.environ["SLURM_JOB_ID"], os.environ["SLURM_STEP_ID"]
    launch = os.environ.get("SLURM_RESTART_COUNT", "0")  # a requeued job keeps its number
    file = out / "rendezvous" / f"job-{job}-launch-{launch}-step-{step}.json"
    if first:
        _publish(file)
        for old in file.parent.glob(f"job-{job}-launch-*"):
            if not old.name.startswith(f"job-{job}-launch-{launch}-"):
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


def _publish(file: Path) -> None:
    address = os.environ.get("MASTER_ADDR") or os.environ["SLURMD_NODENAME"]
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
