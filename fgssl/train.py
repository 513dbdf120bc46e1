"""`python -m fgssl.train CONFIG.yaml [key=value ...] [--out DIR]`: one run, trained and evaluated."""

import argparse
import sys
from pathlib import Path

from fgssl import config as configs
from fgssl.errors import exit_code


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fgssl.train", description=__doc__)
    parser.add_argument("config", type=Path, help="settings of one run; also a run folder's own config.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. training.epochs=10")
    parser.add_argument("--out", type=Path, default=Path("outputs/train"), help="run folders go to OUT/runs")
    arguments = parser.parse_intermixed_args()
    config = configs.load(arguments.config, arguments.overrides)

    from fgssl.run import execute  # after validation: importing torch takes seconds
    from fgssl.training.interruption import Interrupted

    try:
        folder = execute(config, arguments.out)
    except Interrupted as interrupted:
        print("interrupted; what was done is saved, the same command goes on from there", file=sys.stderr)
        return int(interrupted.code or 0)
    print(f"run folder: {folder.path}")
    for name, value in (folder.evaluation(config) or {}).items():
        print(f"{name:>18} {value:.2f}" if isinstance(value, float) else f"{name:>18} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
