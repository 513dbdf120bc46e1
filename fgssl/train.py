"""`python -m fgssl.train CONFIG.yaml [key=value ...] [--out DIR]`: one run, trained and evaluated.

Also started several times, as the processes of one run: by torchrun, `accelerate launch`, or srun.
"""

import argparse
import os
import sys
import traceback
from pathlib import Path

from fgssl import config as configs
from fgssl.errors import PeerLostError, UserError, exit_code
from fgssl.run_folder import RunFolder
from fgssl.training.interruption import Interrupted, leave_when_told
from fgssl.verify_exact import verify
from hpc import ranks

EXIT_PEER_LOST = 69
"""Of a process whose run ended because another process did: look at that one (EX_UNAVAILABLE of sysexits.h)."""


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
    leave_when_told(alone=processes.world_size == 1)

    from fgssl.collectives import leave
    from fgssl.run import execute  # after validation: importing torch takes seconds

    try:
        folder = RunFolder(arguments.run_folder) if arguments.run_folder else None
        folder = execute(config, arguments.out, folder, processes, arguments.stop_after_step)
    except Interrupted as interrupted:
        if processes.rank == 0:
            print("interrupted; the same command goes on from the newest checkpoint", file=sys.stderr)
        leave()
        return int(interrupted.code or 0)
    except Exception as error:
        if processes.world_size > 1:
            _end_at_once(error)
        raise
    leave()
    if processes.rank == 0:
        print(f"run folder: {folder.path}")
        for name, value in (folder.evaluation(config) or {}).items():
            print(f"{name:>18} {value:.2f}" if isinstance(value, float) else f"{name:>18} {value}")
    return 0


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
