"""`fgssl train CONFIG.yaml [key=value ...] [--out DIR]`: one run, trained and evaluated.

Also started several times, as the processes of one run: by torchrun, `accelerate launch`, or srun.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fgssl.errors import exit_code
from fgssl.interruption import Interrupted
from fgssl.run.process import make
from fgssl.run.verify_exact import verify
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.store.run_folder import RunFolder
from hpc import ranks


def main(given_arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fgssl train", description=__doc__)
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
    arguments = parser.parse_intermixed_args(given_arguments)
    config = configs.load(arguments.config, arguments.overrides)
    if arguments.verify_exact:
        return 0 if verify(arguments.config, arguments.overrides, arguments.out) else 1
    ranks.require_engine(config.resources.engine)
    processes = ranks.processes(arguments.out, config.resources.expected_processes)
    folder = arguments.run_folder or arguments.out / "runs" / fingerprints.run_name(config)
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


if __name__ == "__main__":
    sys.exit(exit_code(main))
