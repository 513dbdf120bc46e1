"""Failure of one process: the job ends fast, reports the cause first, and requests no requeue."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.errors import EXIT_PEER_LOST
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.store.run_folder import RunFolder
from hpc.ranks import free_port
from tests.distributed.conftest import ENVIRONMENT, ROOT

SETTINGS = ("encoder.batch_norm_group_size=4", "training.global_batch_size=16", "method.noise.variant=none")


@pytest.fixture
def start(tmp_path: Path, tiny_config: Callable[..., Config]) -> Callable[[str], list["subprocess.Popen[str]"]]:
    """Return `start(how)`, which runs two processes without a launcher, since a launcher would end the second one."""
    file = tmp_path / "config.yaml"
    file.write_text(fingerprints.to_yaml(tiny_config(*SETTINGS)))

    def both(how: str) -> list["subprocess.Popen[str]"]:
        command = [sys.executable, str(ROOT / "tests/distributed/fail_on_one.py"), how, str(file)]
        command += ["--run-folder", str(tmp_path / "run"), "--out", str(tmp_path)]
        port = str(free_port())
        processes = []
        for rank in ("0", "1"):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            environment = {**ENVIRONMENT, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return processes

    return both


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise", "kill"])
def test_the_others_end_and_name_the_first_failure(
    how: str, start: Callable[[str], list["subprocess.Popen[str]"]], tmp_path: Path
) -> None:
    first, second = start(how)
    said_by_second = second.communicate(timeout=300)[1]
    ended = time.monotonic()
    said_by_first = first.communicate(timeout=60)[1]
    assert time.monotonic() - ended < 30  # far less than the 600 s that a process waits for a slow one
    assert (first.returncode, second.returncode) == (EXIT_PEER_LOST, 1 if how == "raise" else -9)
    failure = RunFolder(tmp_path / "run").failure() or ""
    assert "lost contact with the others" in said_by_first
    assert "interrupted" not in said_by_first
    if how == "raise":
        assert "ZeroDivisionError: by the test" in said_by_second
        assert failure.startswith("rank-1:\nTraceback (most recent call last):")
        assert failure.index("ZeroDivisionError: by the test") < failure.index("Connection closed")
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps in ([1, 2], [1, 2, 3])  # the first process may have told the third


@pytest.mark.slow
def test_the_signal_of_a_launcher_that_ends_the_others_asks_for_nothing(
    tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    """torchrun sends TERM to the first process as soon as the second one is dead."""
    file = tmp_path / "config.yaml"
    file.write_text(fingerprints.to_yaml(tiny_config(*SETTINGS)))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, str(ROOT / "tests/distributed/fail_on_one.py"), "kill", str(file)]
    command += ["--run-folder", str(tmp_path / "run"), "--out", str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode not in (0, os.EX_TEMPFAIL)
    assert "lost contact with the others" in (RunFolder(tmp_path / "run").failure() or "")
    assert "exitcode  : 75" not in done.stderr
    assert "interrupted" not in done.stderr
