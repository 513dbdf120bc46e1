"""GPUs and cores of this machine."""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fgssl.errors import UserError

_PATIENCE_S = 20.0
"""Time limit of nvidia-smi, which takes seconds while it wakes the GPUs of a large node."""


def gpus() -> list[str]:
    """Return the GPUs that jobs may use, as `CUDA_VISIBLE_DEVICES` names them; each MIG slice counts as one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # noqa: TID251  a fact of the machine, not a setting
    if visible is None:
        return list(_listed_gpus())
    names = [name for name in map(str.strip, visible.split(",")) if name and name != "-1"]
    return names if names and _listed_gpus() else []


def unused_gpus(jobs: int, devices: Sequence[str]) -> list[str]:
    """Return warnings about GPUs that stay unused; `devices` holds `resources.device` of each run."""
    warnings = list[str]()
    try:
        listed, visible = _listed_gpus(), gpus()
    except UserError:  # `CUDA_VISIBLE_DEVICES` hides all of them
        return []
    if not listed:
        return []
    if len(visible) < len(listed):
        warnings.append(f"{len(listed)} GPUs are here, but CUDA_VISIBLE_DEVICES shows {len(visible)} of them")
    if "cpu" in devices and visible:
        warnings.append(f"{len(visible)} GPUs are here, but runs with resources.device cpu use none")
    if 0 < jobs < len(visible) and set(devices) != {"cpu"}:
        idle = ", ".join(visible[jobs:])
        warnings.append(f"--jobs {jobs} leaves {len(visible) - jobs} of {len(visible)} GPUs without work: {idle}")
    if visible and _torch_is_cpu_only():
        warnings.append("GPUs are here, but the installed torch is a CPU build: install a CUDA build to use them")
    return warnings


def cores() -> int:
    """Return how many cores this process may use by its affinity and, if there is one, its container's quota."""
    available = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return available
    return available if quota == "max" else max(1, min(available, int(quota) // int(period)))


@functools.cache
def _listed_gpus() -> tuple[str, ...]:
    """Return the driver's list, regardless of `CUDA_VISIBLE_DEVICES`; queried once, since it can take seconds.

    Raises `UserError` if the driver does not answer. Runs that use the GPUs would hang too.
    """
    if shutil.which("nvidia-smi") is None:
        return ()
    advice = "reset the driver or take another machine, or set CUDA_VISIBLE_DEVICES= (to nothing) to do without GPUs"
    try:
        process = subprocess.Popen(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        listing = process.communicate(timeout=_PATIENCE_S)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a process that hangs in the driver cannot be killed
            process.communicate(timeout=1)
        raise UserError(f"`nvidia-smi -L` has not answered for {_PATIENCE_S:.0f} s: {advice}") from None
    except OSError as error:
        raise UserError(f"`nvidia-smi -L` cannot be started: {error.strerror}: {advice}") from error
    if process.returncode != 0:
        return ()
    found: list[str] = []
    for line in listing.splitlines():
        if match := re.match(r"GPU (\d+):", line):
            found.append(match[1])
        elif match := re.search(r"\(UUID: (MIG-[^)]+)\)", line):
            if found and not found[-1].startswith("MIG-"):
                found.pop()  # a GPU in slices is usable by its slices only
            found.append(match[1])
    return tuple(found)


def _torch_is_cpu_only() -> bool:
    import importlib.metadata

    return importlib.metadata.version("torch").endswith("+cpu")
