"""Program of each process of a launch: execute several runs, each in its own output folder.

argv: a JSON file with [{"out": folder, "overrides": ["key=value", ...], "last_step": null}, ...] on the tiny config.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

from fgssl.collectives import leave
from fgssl.interruption import Interrupted
from fgssl.processes import Processes
from fgssl.run.execution import execute
from fgssl.settings import config as configs
from tests.conftest import TINY


def main() -> None:
    rank, world_size, local_rank, local_world_size = (int(os.environ.get(*item)) for item in _VARIABLES.items())
    processes = Processes(rank, world_size, local_rank, local_world_size, launcher="torchrun")
    for cell in json.loads(Path(sys.argv[1]).read_text()):
        mapping = configs.overridden(TINY, cell["overrides"])
        with contextlib.suppress(Interrupted):  # after the last step
            execute(
                configs.parse(mapping, "test"), Path(cell["out"]), processes=processes, last_step=cell.get("last_step")
            )
    leave()


_VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}

if __name__ == "__main__":
    main()
