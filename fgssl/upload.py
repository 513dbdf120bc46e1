"""Numbers of the host on their way to the device, which nothing waits for."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def upload(values: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Return `values`, which lie on the host, as a tensor on `device`.

    A GPU copies them from pinned memory when it gets there: from ordinary memory the host would wait for all the work
    that it has queued.
    """
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type != "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)
