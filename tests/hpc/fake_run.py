"""Replacement of `fgssl/run/execution.py` in frozen code, with the same record on disk but no training.

OUT/behavior.json sets the behavior of runs by name: `fail` (raises), `lack` (raises a `DataError`), `warn`
(prints a warning), `die` (kills itself) or `slow` (takes steps until
it is interrupted, or OUT/go exists). OUT/executed.log gets one line per execution.
"""

import json
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path

from fgssl.errors import DataError
from fgssl.settings.config import Config
from fgssl.settings.fingerprints import run_name
from fgssl.store.files import read_record
from fgssl.store.records import TRAINED, Environment, Evaluation, Measures, Trained, evaluation_file
from fgssl.store.run_folder import RunFolder

_LAUNCHER = re.compile("RANK|WORLD_SIZE|LOCAL_|MASTER_|ACCELERATE_|PMI_|OMPI_|TORCHELASTIC_")


def execute(config: Config, out: Path) -> RunFolder:
    folder = RunFolder(out / "runs" / run_name(config))
    if folder.done(config):
        return folder
    with folder.lease(config) as lease:
        if folder.done(config):  # by another process, between the look and the lease
            return folder
        with (out / "executed.log").open("a") as log:
            of_launcher = sorted(filter(_LAUNCHER.match, os.environ))
            attempt = {"run": folder.path.name, "pid": os.getpid(), "code": __file__, "env": _env()}
            log.write(json.dumps({**attempt, "launcher": of_launcher}) + "\n")
        for role in ("encoder", "decoder"):
            source = getattr(config.start, role)
            if (
                source is not None
                and source.run is not None
                and not (out / "runs" / source.run / "trained.json").exists()
            ):
                raise RuntimeError(f"{role} of {source.run} is not there yet")
        behavior = (read_record(out / "behavior.json", dict) or {}).get(folder.path.name)
        try:
            if behavior == "fail":
                raise RuntimeError("this run fails")
            if behavior == "lack":
                raise DataError("shards/birds: no labels")
            if behavior == "warn":
                print(
                    f"a line of {folder.path.name}\nWARNING: data.stage: full",
                    file=sys.stderr,
                )
            if behavior == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if behavior == "slow":
                _take_steps(folder, out)
        except Exception as error:
            lease.write("failure.txt", f"{error}\n" if isinstance(error, DataError) else traceback.format_exc())
            raise
        lease.write("encoder.safetensors", b"weights")
        made_by = Environment(code_version="c1", processes=1, engine="ddp", threads=1, device="cpu", versions={})
        lease.write_record(
            TRAINED, Trained(steps=1, wall_s=1.0, metrics={}, environments=(made_by,), data_version="v1", start={})
        )
        if config.evaluation is not None:
            measures: Measures = {column.name: 50.0 + config.seed for column in config.evaluation.columns}
            measured = Evaluation(measures=measures, wall_s=0.5, code_version="c1", data_version="v1", device="cpu")
            lease.write_record(evaluation_file(config), measured)
        lease.clear_failure()
    return folder


def _take_steps(folder: RunFolder, out: Path) -> None:
    """Count in the file `checkpoint`, which is saved only after an interruption, as in the trainer."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    checkpoint = folder.path / "checkpoint"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    (folder.path / "stepping").touch()
    while not (out / "go").exists():
        step += 1
        time.sleep(0.02)
        if told:
            checkpoint.write_text(str(step))
            raise SystemExit(143)


def _env() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONSAFEPATH")}
