"""`fgssl train` whose second process fails in step 3. argv: `raise` or `kill`, then the arguments of `fgssl train`."""

import os
import signal
import sys

import torch.distributed as dist
from torch import Tensor

from fgssl.__main__ import main
from fgssl.data.loader import RawBatch
from fgssl.training.finite import FiniteCheck

how = sys.argv.pop(1)
add = FiniteCheck.add


def failing(check: FiniteCheck, batch: RawBatch, *numbers: Tensor) -> None:
    if dist.get_rank() == 1 and batch.step == 2:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("by the test")
    add(check, batch, *numbers)


setattr(FiniteCheck, "add", failing)  # noqa: B010

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
