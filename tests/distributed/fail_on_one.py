"""`fgssl train` whose second process fails in step 3. argv: `raise` or `kill`, then the arguments of `fgssl train`."""

import os
import signal
import sys

from fgssl.__main__ import main
from fgssl.training.trainer import Trainer

how = sys.argv.pop(1)
finite = Trainer._finite


def failing(trainer: Trainer, loss: float, *others: object) -> float:
    if trainer.world.rank == 1 and trainer.step == 2:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("by the test")
    return finite(trainer, loss, *others)  # type: ignore[arg-type]


setattr(Trainer, "_finite", failing)  # noqa: B010

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
