"""`python -m fgssl.train CONFIG.yaml [key=value ...] [--out DIR]`: one run, trained and evaluated.

Also started several times, as the processes of one run: by torchrun, `accelerate launch`, or srun.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from fgssl.errors import EXIT_PEER_LOST, PeerLostError, UserError, exit_code
from fgssl.processes import Processes
from fgssl.settings import config as configs
from fgssl.store.run_folder import Generation, RunFolder
from fgssl.training.interruption import Interrupted, leave_when_told, stop_leaving
from fgssl.verify_exact import verify
from hpc import ranks


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fgssl.train", description=__doc__)
    parser.add_argument("config", type=Path, help="settings of one run; also a run folder's own config.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. training.epochs=10")
    parser.add_argument("--out", type=Path, default=Path("outputs/train"), help="run folders go to OUT/runs")
    parser.add_argument(
        "--stop-after-step", type=int, metavar="N", help="leave after N steps as if interrupted; run again to go on"
    )
    parser.add_argument("--run-folder", type=Path, metavar="DIR", help="the run folder, instead of one in OUT/runs")
    parser.add_argument(
        "--verify-exact",
        action="store_true",
        help="train nothing; try on this machine that `training.invariant: exact` gives equal bits for this config",
    )
    arguments = parser.parse_intermixed_args()
    config = configs.load(arguments.config, arguments.overrides)
    if arguments.verify_exact:
        return 0 if verify(arguments.config, arguments.overrides, arguments.out) else 1
    ranks.require_engine(config.resources.engine)
    processes = ranks.processes(arguments.out, config.resources.expected_processes)
    folder = arguments.run_folder or arguments.out / "runs" / configs.run_name(config)
    try:
        make(config, arguments.out, RunFolder(folder), processes, arguments.stop_after_step)
    except Interrupted as interrupted:
        if processes.rank == 0:
            print("interrupted; the same command goes on from the newest checkpoint", file=sys.stderr)
        return int(interrupted.code or 0)
    if processes.rank == 0:
        print(f"run folder: {folder}")
        for name, value in (RunFolder(folder).evaluation(config) or {}).items():
            print(f"{name:>18} {value:.2f}" if isinstance(value, float) else f"{name:>18} {value}")
    return 0


def make(
    config: configs.Config,
    out: Path,
    folder: RunFolder,
    processes: Processes,
    last_step: int | None = None,
    generation: Generation | None = None,
    failing: Callable[[Exception], None] = lambda error: None,
) -> None:
    """`fgssl.run.run.execute`, as one of the processes of a run that are to leave together.

    Raises `Interrupted` when told to stop. `failing` hears of a failure; one of several processes ends then.
    """
    leave_when_told(alone=processes.world_size == 1)

    from fgssl.collectives import leave
    from fgssl.run.run import execute  # after validation: importing torch takes seconds

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


if __name__ == "__main__":
    sys.exit(exit_code(main))
