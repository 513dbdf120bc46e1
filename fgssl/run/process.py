"""One process of a run from its launch to its exit: import torch, execute, leave with the others or end at once."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from fgssl.errors import EXIT_PEER_LOST, PeerLostError, UserError
from fgssl.interruption import Interrupted, leave_when_told, stop_leaving
from fgssl.processes import Processes
from fgssl.settings import config as configs
from fgssl.store.lease import Generation
from fgssl.store.run_folder import RunFolder


def make(
    config: configs.Config,
    out: Path,
    folder: RunFolder,
    processes: Processes,
    last_step: int | None = None,
    generation: Generation | None = None,
    failing: Callable[[Exception], None] = lambda error: None,
) -> None:
    """Execute a run as one of its processes, which leave together.

    Args:
        config: Settings of the run.
        out: Output folder.
        folder: Run folder.
        processes: Processes of the run, and the rank of this one.
        last_step: As in `fgssl.run.execution.execute`, as is `generation`.
        generation: Generation of the lease.
        failing: Function that is called with the error of a failure.

    Raises:
        Interrupted: A signal stopped the run.
        Exception: The run failed. If it has several processes, this one exits at once instead.
    """
    leave_when_told(alone=processes.world_size == 1)

    from fgssl.collectives import leave
    from fgssl.run.execution import execute  # imported only after validation, since torch takes seconds

    try:
        execute(config, out, folder, processes, last_step, generation)
    except Interrupted:
        stop_leaving()  # when another process has left, srun sends TERM to this one
        leave()
        raise
    except Exception as error:
        failing(error)
        if processes.world_size > 1:
            _end_at_once(error)
        raise
    leave()


def _end_at_once(error: Exception) -> None:
    """Print the error and exit without a further exchange with the other processes, which could wait forever."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(EXIT_PEER_LOST if isinstance(error, PeerLostError) else 2 if isinstance(error, UserError) else 1)
