"""Replacement of `fgssl/run/execution.py` in the code of jobs, with the same records and signals but no training.

A run takes STEPS steps (or OUT/steps) of STEP_S seconds each, and saves every SAVED_EVERY steps and when it is
interrupted; its result depends on every step. OUT/behavior.json sets the behavior of runs by name: `fail`, or `endless`
until OUT/go exists. OUT/executed.log gets a line at each start, OUT/ended.log at each end of a training, and
OUT/published.log with each checkpoint, before each result, and when a launch acquires the run's lease.
"""

import json
import os
import time
import traceback
from pathlib import Path

from fgssl.interruption import Interruption
from fgssl.processes import ALONE, Processes
from fgssl.settings.config import Config
from fgssl.settings.fingerprints import run_name
from fgssl.store.files import read_record, write_atomically
from fgssl.store.lease import Generation, Lease
from fgssl.store.records import (
    PROGRESS,
    TRAINED,
    Environment,
    Evaluation,
    Measures,
    Progress,
    Trained,
    evaluation_file,
)
from fgssl.store.run_folder import RunFolder

STEPS, STEP_S, SAVED_EVERY = 40, 0.05, 10


def execute(
    config: Config,
    out: Path,
    folder: RunFolder | None = None,
    processes: Processes = ALONE,
    last_step: int | None = None,
    generation: Generation | None = None,
) -> RunFolder:
    folder = folder or RunFolder(out / "runs" / run_name(config))
    with Interruption() as interruption:
        if processes.rank:
            while not folder.done(config):
                time.sleep(STEP_S)
                interruption.leave(interruption.received)
            return folder
        with folder.lease(config, generation) as lease:
            behavior = (read_record(out / "behavior.json", dict) or {}).get(folder.path.name)
            _log(out / "executed.log", folder, pid=os.getpid(), code=__file__)
            steps = int((out / "steps").read_text()) if (out / "steps").exists() else STEPS
            step, state = _newest(folder)
            _note_right(lease, out, generation, step)
            if behavior == "fail":
                lease.write("failure.txt", "".join(traceback.format_exception(RuntimeError("this run fails"))))
                raise RuntimeError("this run fails")
            while folder.trained() is None and (step < steps or (behavior == "endless" and not (out / "go").exists())):
                time.sleep(STEP_S)
                if step < steps:
                    step, state = step + 1, (31 * state + step + config.seed) % 2**61
                saved = folder.checkpoints / f"step-{step:08d}" / "state"
                if (interruption.received or step % SAVED_EVERY == 0) and not saved.exists():
                    with lease.publishing():
                        _log(out / "published.log", folder, generation=generation, step=step)
                        saved.parent.mkdir(parents=True, exist_ok=True)
                        write_atomically(saved, str(state))
                progress = Progress(step=step, total_steps=steps, loss=1.0, images_per_s=1.0, updated=time.time())
                lease.write_record(PROGRESS, progress, durable=False)
                interruption.leave(interruption.received)
            made_by = Environment(code_version="c1", processes=1, engine="ddp", threads=1, device="cpu", versions={})
            record = Trained(
                steps=step,
                wall_s=1.0,
                metrics={},
                environments=(made_by,),
                data_version="v1",
                start={},
                state_sha256=str(state),
            )
            if folder.trained() is None:
                lease.write("encoder.safetensors", b"weights")
                _note_right(lease, out, generation, step)
                lease.write_record(TRAINED, record)
                _log(out / "ended.log", folder)
            if config.evaluation is not None:
                measures: Measures = {column.name: 50.0 + config.seed for column in config.evaluation.columns}
                measured = Evaluation(measures=measures, wall_s=0.5, code_version="c1", data_version="v1", device="cpu")
                _note_right(lease, out, generation, step)
                lease.write_record(evaluation_file(config), measured)
            lease.clear_failure()
    return folder


def _newest(folder: RunFolder) -> tuple[int, int]:
    there = sorted(folder.checkpoints.glob("step-*/state"))
    return (int(there[-1].parent.name.removeprefix("step-")), int(there[-1].read_text())) if there else (0, 1)


def _note_right(lease: Lease, out: Path, generation: Generation | None, step: int) -> None:
    """Log that a launch may write to the run at this moment."""
    with lease.publishing():
        _log(out / "published.log", RunFolder(lease.path), generation=generation, step=step)


def _log(file: Path, folder: RunFolder, **facts: object) -> None:
    """Append a line, which is separate from one that a full disk cut short."""
    with file.open("a") as log:
        log.write("\n" + json.dumps({"run": folder.path.name, **facts}) + "\n")
