"""Checkpoints of a writer that is killed at every operation and at random moments."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fgssl.settings import fingerprints
from fgssl.settings.config import Config

KILLED = """
import json, os, shutil, signal, sys, time
from pathlib import Path
import torch
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.store.run_folder import RunFolder
from fgssl.training import checkpoint
from fgssl.store.records import Identity
from fgssl.training.checkpoint import Checkpoint, Writer

MINE = Identity("f00d", "images-1", {})
config, folder = configs.load(Path(sys.argv[1])), RunFolder(Path(sys.argv[2]))
size, kills = int(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(1)  # a forked child waits for ever for OpenMP's threads of its parent

def newest():
    found = checkpoint.latest(folder.checkpoints, MINE)
    if found is None:
        return 0
    assert (found.state["method"]["weight"] == found.step).all()
    return found.step

def save(first, number, last_operation):
    # Killed at this operation (counted) on a file of a checkpoint, if there are so many.
    operations = 0
    def count(event, arguments):
        nonlocal operations
        if (event == "open" or event.startswith(("os.", "shutil."))) and str(folder.checkpoints) in str(arguments):
            operations += 1
            if operations == last_operation:
                os.kill(os.getpid(), signal.SIGKILL)
    with folder.lease(config) as lease, Writer(folder.checkpoints, lease, keep=2) as writer:
        sys.addaudithook(count)
        for step in range(first, first + number):
            weight = torch.full((size,), float(step))
            writer.save(Checkpoint(step, {"method": {"weight": weight}, "optimizer": {}}, MINE, ()))
    os._exit(0)

def aside():
    return set(folder.checkpoints.glob(".step-*"))

def attempt(number, last_operation=None, writing_s=None):
    # Prints the newest step on the disk before and after, how the child ended, and what it left half-done.
    before, left = newest(), aside()
    child = os.fork()
    if child == 0:
        save(before + 1, number, last_operation)
    if writing_s is not None:
        while not aside() - left:
            time.sleep(0.001)
        time.sleep(writing_s)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    halves = sum(1 + len(list(path.iterdir())) for path in aside() - left)
    print(json.dumps([before, newest(), os.waitstatus_to_exitcode(status), halves]), flush=True)
    for old in sorted(folder.checkpoints.glob("step-*"))[:-2]:  # each attempt has the same to do
        shutil.rmtree(old)
    return status

assert attempt(2) == 0
if kills == "every operation":
    operation = 1
    while attempt(1, last_operation=operation) != 0:
        operation += 1
else:
    for writing_s in kills:
        attempt(1000, writing_s=writing_s)
"""


def killed(config: Config, tmp_path: Path, size: int, kills: Any) -> list[list[int]]:
    """Return for each attempt: newest step before and after it, its end, and the number of partial files."""
    (tmp_path / "config.yaml").write_text(fingerprints.to_yaml(config))
    arguments = [str(tmp_path / "config.yaml"), str(tmp_path / "run"), str(size), json.dumps(kills)]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED, *arguments], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_killed_at_every_operation_on_a_file(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    """The new one or the one before can be used, without a warning: nothing half-written bears a step's name."""
    first, *attempts, last = killed(tiny_config(), tmp_path, 10, "every operation")
    assert first == [0, 2, 0, 0]
    assert len(attempts) > 10
    assert all(end == -9 for _, _, end, _ in attempts)
    assert {after - before for before, after, _, _ in attempts} == {0, 1}
    assert {halves for _, _, _, halves in attempts} == {0, 1, 2, 3}
    assert last == [last[0], last[0] + 1, 0, 0]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2


def test_killed_at_random_moments_of_writing(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    writing_s = (0.2 * torch.rand(12)).tolist()
    _, *attempts = killed(tiny_config(), tmp_path, 2_000_000, writing_s)
    assert len(attempts) == len(writing_s)
    assert all(end == -9 for _, _, end, _ in attempts)
    assert all(before <= after for before, after, _, _ in attempts)
    assert any(halves for _, _, _, halves in attempts), "no kill met a write"
