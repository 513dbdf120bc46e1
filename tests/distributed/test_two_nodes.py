"""One run on two nodes over TCP: the same bits as on one node, even if the network between them fails."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fgssl.errors import EXIT_PEER_LOST
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from tests.conftest import TINY
from tests.distributed.conftest import ENVIRONMENT, ROOT, record
from tests.distributed.two_nodes import NotHere, TwoNodes

STEPS = 12
SETTINGS = (
    "encoder.batch_norm_group_size=4",
    "training.global_batch_size=16",
    "training.invariant=exact",
    "training.epochs=1",
    "resources.checkpoint_every_s=0.5",
)
CUT_AFTER_STEPS, CUT_S, TIMEOUT_S = 4, 5.0, 15.0
ENDING_S = 45.0
"""Time between the timeout and the end of the process, on an overloaded machine."""
TIME_LIMIT_S = 240.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mapping = configs.overridden(TINY, SETTINGS)
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(fingerprints.to_yaml(configs.parse(mapping, "test")))
    return file


@pytest.fixture(scope="module")
def state_of_one_process(config: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the SHA-256 of the final state on one process."""
    out = tmp_path_factory.mktemp("alone")
    command = [sys.executable, "-m", "fgssl", "train", str(config), "--out", str(out)]
    subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, check=True, capture_output=True, timeout=TIME_LIMIT_S)
    return str(record(out)["state_sha256"])


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[TwoNodes]:
    with contextlib.ExitStack() as stack:
        try:
            there = stack.enter_context(TwoNodes(tmp_path))
        except NotHere as reason:
            (pytest.fail if "CI" in os.environ else pytest.skip)(str(reason))
        yield there


def steps_told(out: Path) -> list[int]:
    files = list(out.glob("runs/*/metrics.jsonl"))
    return [json.loads(line)["step"] for line in files[0].read_text().splitlines()] if files else []


def wait_for_step(step: int, out: Path, nodes: TwoNodes, processes: "list[subprocess.Popen[bytes]]") -> None:
    deadline = time.monotonic() + TIME_LIMIT_S
    while len(steps_told(out)) < step:
        assert time.monotonic() < deadline
        assert [process.poll() for process in processes] == [None, None], logs(nodes)
        time.sleep(0.02)


def exit_codes(processes: "list[subprocess.Popen[bytes]]", patience_s: float = TIME_LIMIT_S) -> list[int]:
    deadline = time.monotonic() + patience_s
    return [process.wait(max(0.0, deadline - time.monotonic())) for process in processes]


def logs(nodes: TwoNodes) -> str:
    return "\n".join(nodes.log(rank).read_text()[-4000:] for rank in (0, 1))


def test_two_nodes(nodes: TwoNodes, config: Path, tmp_path: Path, state_of_one_process: str) -> None:
    processes = nodes.train([str(config), "--out", str(tmp_path)])
    assert exit_codes(processes) == [0, 0], logs(nodes)
    assert steps_told(tmp_path) == list(range(1, STEPS + 1))
    assert record(tmp_path)["state_sha256"] == state_of_one_process
    for rank in (0, 1):  # the encoder's gradient alone is larger
        assert nodes.sent_bytes(rank) > STEPS * 100_000


def test_a_link_that_comes_back(nodes: TwoNodes, config: Path, tmp_path: Path, state_of_one_process: str) -> None:
    processes = nodes.train([str(config), "--out", str(tmp_path)])
    wait_for_step(CUT_AFTER_STEPS, tmp_path, nodes, processes)
    nodes.cut()
    done = len(steps_told(tmp_path))
    time.sleep(CUT_S)
    assert len(steps_told(tmp_path)) <= done + 1 < STEPS, "the nodes did not need the link"
    nodes.mend()
    assert exit_codes(processes) == [0, 0], logs(nodes)
    assert steps_told(tmp_path) == list(range(1, STEPS + 1))
    assert record(tmp_path)["state_sha256"] == state_of_one_process


def test_a_link_that_stays_cut(nodes: TwoNodes, config: Path, tmp_path: Path, state_of_one_process: str) -> None:
    arguments = [str(config), f"resources.collective_timeout_s={TIMEOUT_S}", "--out", str(tmp_path)]
    processes = nodes.train(arguments)
    wait_for_step(CUT_AFTER_STEPS, tmp_path, nodes, processes)
    nodes.cut()
    assert exit_codes(processes, TIMEOUT_S + ENDING_S) == [EXIT_PEER_LOST] * 2, logs(nodes)
    for rank in (0, 1):
        assert f"process {rank} of 2 lost contact with the others" in nodes.log(rank).read_text()
    (failure,) = tmp_path.glob("runs/*/failure.txt")
    assert "process 0 of 2 lost contact with the others" in failure.read_text()
    assert list(tmp_path.glob("runs/*/checkpoints/step-*"))

    nodes.mend()
    assert exit_codes(nodes.train(arguments)) == [0, 0], logs(nodes)
    assert steps_told(tmp_path) == list(range(1, STEPS + 1))
    assert record(tmp_path)["state_sha256"] == state_of_one_process
    assert not failure.exists()
