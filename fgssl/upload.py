"""Uploads from the host to the device that nothing waits for."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def upload(values: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Return `values`, an array or tensor on the host, as a tensor on `device`.

    A GPU copies them later from pinned memory. From ordinary memory the copy would make the host wait for all queued
    work.
    """
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type != "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)
