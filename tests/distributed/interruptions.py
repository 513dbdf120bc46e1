"""Random interruptions of runs, and their final states: `python -m tests.distributed.interruptions 50 SEED`."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from tests.conftest import EVERY_METHOD, TINY
from tests.distributed.conftest import ENVIRONMENT, ROOT, record

STEPS = 24
SHARDS = ("encoder.batch_norm_group_size=4", "training.global_batch_size=16", "training.invariant=exact")
METHODS = ("both", "simclr", "both on simsiam", "byol")
EVENTS = ("USR2 to one process", "TERM to all", "kill -9 of one process", "kill -9 of all", "kill -9 of all, saving")
TIME_LIMIT_S = 300.0


@dataclass(frozen=True)
class Trial:
    method: str
    engine: str
    event: str
    step: int
    """Step during or just before which the event happens."""
    before: int
    """Number of processes that are interrupted."""
    after: int
    """Number of processes that resume the run."""


def trials(number: int, seed: int) -> list[Trial]:
    """Return trials of each event in turn, alternately on DDP and ZeRO-1; half change the number of processes."""
    choose = random.Random(seed)
    made = []
    for index in range(number):
        changed = index % 4 < 2
        before = choose.choice((1, 2, 4) if index % 5 != 2 else (2, 4))
        after = choose.choice([size for size in (1, 2, 4) if (size != before) == changed])
        engine = ("ddp", "zero1")[index % 2]
        step = choose.randrange(1, STEPS)
        made.append(Trial(choose.choice(METHODS), engine, EVENTS[index % len(EVENTS)], step, before, after))
    return made


class Runs:
    """Runs in a folder, and the final states of their uninterrupted versions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._straight: dict[str, str] = {}

    def straight(self, method: str) -> str:
        """Return the SHA-256 of the final state of an uninterrupted training on one process."""
        if method not in self._straight:
            out = self.folder / f"straight-{method.replace(' ', '-')}"
            process = self._start(out, method, "ddp", 1)
            assert process.wait(TIME_LIMIT_S) == 0, _log(out)
            self._straight[method] = record(out)["state_sha256"]
        return self._straight[method]

    def interrupted(self, trial: Trial, name: str) -> str:
        """Return the SHA-256 of the final state of a trial, after as many launches as it takes."""
        out, choose = self.folder / name, random.Random(name)
        process = self._start(out, trial.method, trial.engine, trial.before)
        happened = self._happen(trial, process, out, choose)
        code = process.wait(TIME_LIMIT_S)
        if happened and trial.before == 1:
            assert code == (-9 if "kill" in trial.event else 75), f"{code}: {_log(out)}"
        if happened and code and "kill" not in trial.event:
            assert "interrupted; the same command continues" in _log(out), "it did not save and leave"
            (newest,) = sorted(out.glob("runs/*/checkpoints/step-*"))[-1:]
            assert newest.name == f"step-{_steps_told(out):08d}", "the last step that was told is not the one saved"
        if happened and code and "kill -9 of one" in trial.event and trial.before > 1:
            assert "interrupted; the same command continues" not in _log(out), "a failure asks to be started again"
        if code:
            again = self._start(out, trial.method, trial.engine, trial.after)
            assert again.wait(TIME_LIMIT_S) == 0, _log(out)
        (metrics,) = out.glob("runs/*/metrics.jsonl")
        steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
        assert steps == list(range(1, STEPS + 1)), "a step was lost, or told twice"
        return str(record(out)["state_sha256"])

    def _start(self, out: Path, method: str, engine: str, processes: int) -> "subprocess.Popen[bytes]":
        out.mkdir(parents=True, exist_ok=True)
        file = out / "config.yaml"
        overrides = (*EVERY_METHOD[method], *SHARDS, f"resources.engine={engine}", "resources.checkpoint_every_s=0.2")
        mapping = configs.overridden(TINY, overrides)
        file.write_text(fingerprints.to_yaml(configs.parse(mapping, "test")))
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(torchrun if processes > 1 else [])]
        with (out / "log").open("a") as log:
            command += ["-m", "fgssl", "train", str(file), "--out", str(out)]
            return subprocess.Popen(command, env=ENVIRONMENT, cwd=ROOT, stdout=log, stderr=log)

    def _happen(self, trial: Trial, process: "subprocess.Popen[bytes]", out: Path, choose: random.Random) -> bool:
        """Wait for the moment of the event and cause it; return False if the training ended before."""
        while process.poll() is None and _steps_told(out) < trial.step:
            time.sleep(0.002)
        if "saving" in trial.event:
            while process.poll() is None and not any(out.glob("runs/*/checkpoints/.step-*")):
                time.sleep(0.0005)
        else:
            time.sleep(choose.uniform(0, 0.3))
        try:
            agent = psutil.Process(process.pid)
            processes = agent.children() if trial.before > 1 else [agent]
            processes = [one for one in processes if "fgssl train" in " ".join(one.cmdline())]
        except psutil.NoSuchProcess:
            return False
        if "one" in trial.event:
            processes = [choose.choice(processes)] if processes else []
        number = signal.SIGKILL if "kill" in trial.event else signal.Signals["SIG" + trial.event.split()[0]]
        for one in processes:
            os.kill(one.pid, number)
        return bool(processes)


def _steps_told(out: Path) -> int:
    files = list(out.glob("runs/*/metrics.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def _log(out: Path) -> str:
    return (out / "log").read_text()[-6000:]


def main() -> None:
    number, seed = (int(value) for value in (*sys.argv[1:], "0")[:2])
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder))
        for index, trial in enumerate(trials(number, seed)):
            began = time.monotonic()
            same = runs.interrupted(trial, f"trial-{index}") == runs.straight(trial.method)
            counts[trial.event, "same" if same else "DIFFERENT"] += 1
            print(f"{index:3d} {'same' if same else 'DIFFERENT'} {time.monotonic() - began:5.1f} s {trial}", flush=True)
    for (event, result), times in sorted(counts.items()):
        print(f"{event:24} {result:10} {times}")


if __name__ == "__main__":
    main()
