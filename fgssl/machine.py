"""The device of a run, and torch set up for equal bits."""

import shutil
import sys

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from fgssl.errors import UserError
from fgssl.training.settings import ResourceSettings


def accelerator(resources: ResourceSettings, precision: str) -> Accelerator:
    """A fresh accelerator for one run. Raises `UserError` where the device asked for is not here."""
    gpu = torch.cuda.is_available()
    if resources.device == "cuda" and not gpu:
        raise UserError("resources.device is cuda, but torch sees no GPU here; take `auto` or `cpu`")
    if resources.device == "auto" and not gpu and shutil.which("nvidia-smi"):
        print("WARNING: nvidia-smi is here, but torch sees no GPU: this run uses the CPU", file=sys.stderr)
    if resources.device == "cpu" and gpu:
        print("WARNING: a GPU is here and resources.device is cpu: this run does not use it", file=sys.stderr)
    torch.set_num_threads(resources.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.allow_tf32 = precision == "tf32"  # of convolutions; losses are products of matrices
    torch.backends.cuda.matmul.allow_tf32 = False
    # Accelerate keeps its state for the process, but a process makes several runs, each with settings of its own.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    on_cpu = resources.device == "cpu" or not gpu
    made = Accelerator(cpu=on_cpu, mixed_precision="bf16" if precision == "bf16" else "no")
    if (made.device.type == "cpu") != on_cpu:
        raise RuntimeError(f"Accelerate chose {made.device}, resources.device is {resources.device}")
    return made


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
