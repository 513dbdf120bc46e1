"""Device of a process, its place among the others, and torch's settings for reproducible bits."""

import contextlib
import datetime
import os
import shutil
import sys

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import InitProcessGroupKwargs

from fgssl.collectives import World, peers_missed
from fgssl.errors import UserError
from fgssl.processes import ALONE, Processes
from fgssl.settings.training import ResourceSettings, TrainingSettings
from fgssl.training.grad_cache import Autocast


def world(resources: ResourceSettings, training: TrainingSettings, processes: Processes = ALONE) -> World:
    """Join the other processes of a run (gloo on CPUs, NCCL on GPUs) and set torch up for it.

    Raises:
        UserError: The machine lacks the requested device, or torch finds other processes than the launcher started.
    """
    gpu = torch.cuda.is_available()
    if resources.device == "cuda" and not gpu:
        raise UserError("resources.device is cuda, but torch sees no GPU here: take `auto` or `cpu`")
    if processes.rank == 0:
        _advise(resources, gpu)
    on_cpu = resources.device == "cpu" or not gpu
    # If SLURM binds a GPU to each task, each sees exactly one. NCCL rejects one GPU for two processes.
    if not on_cpu and processes.local_world_size > torch.cuda.device_count() > 1:
        raise UserError(
            f"{processes.local_world_size} processes on this node, but torch sees {torch.cuda.device_count()} GPUs: "
            "start one process per GPU, or give each node's job more GPUs"
        )
    _set_up_torch(training)
    # Accelerate keeps its state per process, but a process may execute several runs with different settings.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    patience = InitProcessGroupKwargs(timeout=datetime.timedelta(seconds=resources.collective_timeout_s))
    try:
        accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[patience])
    except RuntimeError as error:
        if (missed := peers_missed(error, processes)) is None:
            raise
        raise missed from error
    if (accelerator.device.type == "cpu") != on_cpu:
        raise RuntimeError(f"Accelerate chose {accelerator.device}, resources.device is {resources.device}")
    torch.set_num_threads(resources.threads)  # Accelerate has just set another number
    joined = World.joined(accelerator.device)
    if (joined.rank, joined.size) != (processes.rank, processes.world_size):
        raise UserError(
            f"{processes.launcher} started {processes.world_size} processes, of which this is number {processes.rank}, "
            f"but Accelerate and torch see {joined.size}, of which this is number {joined.rank}, so each would train a "
            "run of its own: start them by torchrun, by `accelerate launch` with a file of hpc/accelerate, or by srun"
        )
    return joined


def _set_up_torch(training: TrainingSettings) -> None:
    """Choose how torch computes, before any thread starts."""
    # A softmax that is nearly sure leaves denormal residuals, which slow down products on the CPU many times. Threads
    # inherit the setting, so it precedes those of the loader and of gloo.
    torch.set_flush_denormal(True)
    # cuBLAS is deterministic only with this workspace. It reads the variable at the first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=training.invariant != "exact")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # TF32 is for convolutions alone: losses are products of matrices, and need full precision.
    torch.backends.cudnn.allow_tf32 = training.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = False


def autocast(device: torch.device, precision: str) -> Autocast:
    """Return a function without arguments that makes a context in which networks compute in `precision`."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in dtypes:
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, dtypes[precision])


def device_name(device: torch.device) -> str:
    """Return the model of the GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def denormals() -> str:
    """Return `flushed` if torch takes denormal numbers for zeros in this thread on the CPU, else `kept`."""
    return "kept" if (torch.full((1,), torch.finfo(torch.float32).tiny) / 2).item() else "flushed"


def _advise(resources: ResourceSettings, gpu: bool) -> None:
    if resources.device == "auto" and not gpu and shutil.which("nvidia-smi"):
        print("WARNING: nvidia-smi is here, but torch sees no GPU: this run uses the CPU", file=sys.stderr)
    if resources.device == "cpu" and gpu:
        print("WARNING: a GPU is here and resources.device is cpu: this run does not use it", file=sys.stderr)
