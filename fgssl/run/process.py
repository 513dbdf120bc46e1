"""One process of a run, from its launch to its exit: importing torch, leaving together, ending at once."""

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
    """Run `fgssl.run.execution.execute` as one of the processes of a run that are to leave together.

    Raises `Interrupted` when told to stop. `failing` hears of a failure; one of several processes ends then.
    """
    leave_when_told(alone=processes.world_size == 1)

    from fgssl.collectives import leave
    from fgssl.run.execution import execute  # after validation: importing torch takes seconds

    try:
        execute(config, out, folder, processes, last_step, generation)
    except Interrupted:
        stop_leaving()  # another process that has left already makes srun send TERM to this one
        leave()
        raise
    except Exception as error:
        failing(error)
        if processes.world_size > 1:
            _end_at_once(error)
        raise
    leave()


def _end_at_once(error: Exception) -> None:
    """Say why, and end without a word to the other processes: they may be waiting for this one, and it for them."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(EXIT_PEER_LOST if isinstance(error, PeerLostError) else 2 if isinstance(error, UserError) else 1)
