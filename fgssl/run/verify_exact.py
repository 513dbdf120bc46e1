"""Check of `invariant: exact` on this machine: a short training is repeated and must end in the same bits every time.

The repetitions differ in the number of processes, and in whether they are interrupted or killed and then resumed.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fgssl.errors import EXIT_INTERRUPTED, Problem, SettingsError, UserError
from fgssl.settings import config as configs
from fgssl.settings.config import Config
from fgssl.store.files import read_record
from fgssl.store.records import COMPLETE, CheckpointMark
from fgssl.store.run_folder import RunFolder

STEPS = 8
_MOST_PROCESSES_ON_CPU = 4
_SETTINGS = (
    "training.invariant=exact",
    "evaluation=null",
    "resources.checkpoint_every_s=0",
    "resources.log_every_steps=1",
    "resources.micro_batch_size=null",
    "resources.expected_processes=null",
)
_TAIL_LINES = 30


@dataclass(frozen=True)
class Case:
    """Training to `STEPS` by one or more launches, of which all but the last are ended after their first new step."""

    processes: tuple[int, ...]
    """Number of processes of each launch."""
    ended_by: signal.Signals | None = None
    """Signal that ends a launch before its end; None if there is only one launch."""

    def __str__(self) -> str:
        first, *others = (f"{number} process{'es' if number > 1 else ''}" for number in self.processes)
        how = {signal.SIGTERM: "stopped", signal.SIGKILL: "killed"}
        return ", ".join([first, *(f"{how[self.ended_by]}, then {other}" for other in others if self.ended_by)])


def cases(sizes: Sequence[int]) -> list[Case]:
    """Return the cases for `sizes`, the possible numbers of processes in ascending order."""
    most, fewest = sizes[-1], sizes[0]
    straight = [Case((size,)) for size in sizes]
    return [*straight, Case((most, fewest), signal.SIGTERM), Case((fewest, most), signal.SIGKILL)]


def verify(config_file: Path, overrides: Sequence[str], out: Path) -> bool:
    """Run all cases, print a line for each and a verdict, and return whether all ended in the same bits.

    The runs write into `out`/verify-exact.
    """
    settings = (*overrides, *_SETTINGS)
    config = configs.load(config_file, settings)
    if not config.method.trains:
        message = f"{config.method.name} trains nothing, so there are no bits to compare: take another method"
        raise SettingsError([Problem(str(config_file), "method.name", message)])
    sizes = [size for size in configs.possible_processes(config) if size <= _most_processes(config)]
    folder = out / "verify-exact"
    shutil.rmtree(folder, ignore_errors=True)
    print(f"verify-exact: {STEPS} steps of {config.method.name}, {config.resources.engine}, in {folder}", flush=True)
    found: dict[str, str] = {}
    for number, case in enumerate(cases(sizes)):
        began = time.monotonic()
        found[str(case)] = _state_after(
            case, [str(config_file), *settings, "--out", str(out)], folder / f"case-{number}"
        )
        same = "" if len(found) == 1 else " (same)" if len(set(found.values())) == 1 else " (DIFFERENT)"
        print(f"  {found[str(case)][:16]}  {case}{same}, {time.monotonic() - began:.0f} s", flush=True)
    passed = len(set(found.values())) == 1
    if len(sizes) == 1:
        print("only one number of processes was tried: this machine has no more GPUs, or the batch cannot be divided")
    print("verdict: exact, to the last bit" if passed else "verdict: NOT exact: the same training gave different bits")
    return passed


def _most_processes(config: Config) -> int:
    import torch

    on_gpu = config.resources.device != "cpu" and torch.cuda.is_available()
    return torch.cuda.device_count() if on_gpu else _MOST_PROCESSES_ON_CPU


def _state_after(case: Case, arguments: Sequence[str], folder: Path) -> str:
    """Run one case, and return the SHA-256 of the state after `STEPS`."""
    for processes in case.processes[:-1]:
        _launch(processes, arguments, folder, case.ended_by)
        if _steps(folder) == STEPS:
            message = f"all {STEPS} steps were done before the signal: give larger images or batches"
            print(f"WARNING: {message}", file=sys.stderr, flush=True)
    _launch(case.processes[-1], arguments, folder, None)
    run = RunFolder(folder)
    record = run.trained() or read_record(run.checkpoints / f"step-{STEPS:08d}" / COMPLETE, CheckpointMark)
    if record is None:
        raise UserError(f"{folder}: neither a trained network nor a checkpoint of step {STEPS} is left")
    return str(record.state_sha256)


def _launch(processes: int, arguments: Sequence[str], folder: Path, ended_by: signal.Signals | None) -> None:
    """Train with one process or by torchrun, and send `ended_by` after the first new step."""
    folder.mkdir(parents=True, exist_ok=True)
    module = ["-m", "fgssl", "train", *arguments, "--run-folder", str(folder), "--stop-after-step", str(STEPS)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), *module]
    before, log = _steps(folder), folder.with_suffix(".log")
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        try:
            while ended_by is not None and process.poll() is None and _steps(folder) <= before:
                time.sleep(0.01)
            if ended_by == signal.SIGKILL:
                _kill(process)
            elif ended_by is not None:
                process.send_signal(ended_by)
            process.wait()
        finally:
            _kill(process)
    if ended_by is None and process.returncode not in (0, EXIT_INTERRUPTED) and _steps(folder) < STEPS:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
        raise UserError(f"{' '.join(command)} failed ({process.returncode}); the end of {log}:\n{tail}")


def _steps(folder: Path) -> int:
    """Return the number of steps logged so far."""
    with contextlib.suppress(OSError):
        lines = RunFolder(folder).metrics.read_text(encoding="utf-8").splitlines()
        return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)
    return 0


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
