"""Check of start weights before a sweep, so that a wrong file is found once and not in every run."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fgssl.settings.config import Config
from hpc.environment import outside_launcher
from hpc.sweeps.plan import SweepRun
from hpc.sweeps.state import run_folder

_PROGRAM = "fgssl.run.start_weights"


def start_weight_problems(runs: Sequence[SweepRun], out: Path) -> list[str]:
    """Return the messages about weights files that do not fit the encoders of unfinished runs, each once.

    Each file is read once for each kind of encoder, by a process of its own, since planning imports no torch. Missing
    files are left to `hpc.sweeps.plan_inputs`. Nothing is written.
    """
    tried: dict[str, Config] = {}
    for run in runs:
        source = run.config.start.encoder
        if source is None or source.file is None or not Path(source.file).expanduser().is_file():
            continue
        if run_folder(run, out).trained() is None:
            tried.setdefault(repr((source, run.config.encoder, run.config.views)), run.config)
    if not tried:
        return []
    tries = pickle.dumps([*tried.values()])
    process = subprocess.run(
        [sys.executable, "-P", "-m", _PROGRAM],  # -P: no module in the working directory comes before ours
        env=outside_launcher() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # the same fgssl as here
        input=tries,
        stdout=subprocess.PIPE,
        check=False,
    )
    if process.returncode != 0:
        return [f"start.encoder.file: python -m {_PROGRAM}, which tries the weights, failed: see its error above"]
    return list(dict.fromkeys(json.loads(process.stdout)))
