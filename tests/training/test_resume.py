"""A training that is interrupted and resumed equals an uninterrupted one, to the last bit."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.errors import EXIT_INTERRUPTED, DataError
from fgssl.interruption import Interrupted
from fgssl.run.execution import execute
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.store.run_folder import RunFolder
from fgssl.training.reporter import Reporter
from tests.conftest import EVERY_METHOD
from tests.multi_crop import RECIPES

NETWORKS = ("encoder.safetensors", "decoder.safetensors")


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send SIGTERM once during `step`."""
    advance = Reporter.advance

    def advance_and_signal(self: Reporter, done: int, loss: float) -> None:
        advance(self, done, loss)
        if done == step and self.start_step < step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Reporter, "advance", advance_and_signal)


def assert_same(one: RunFolder, other: RunFolder, networks: tuple[str, ...] = NETWORKS) -> None:
    for name in networks:
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes()
    assert one.metrics.read_text() == other.metrics.read_text()
    records = [folder.trained() for folder in (one, other)]
    assert records[0] is not None
    assert records[1] is not None
    assert dataclasses.replace(records[0], wall_s=records[1].wall_s) == records[1]


@pytest.mark.parametrize(
    ("epochs", "overrides"),
    [
        (2, ("method.noise.variant=both",)),
        (1, ("method.noise.variant=none", "training.warm_up_epochs=0.5", "resources.micro_batch_size=16")),
        (1, ("method={name: decoder}", "training.optimizer={name: adam, learning_rate: 0.001}")),
        (1, ("method.noise.variant=random", "training.precision=bf16")),
        (1, ("method={name: simclr, hidden_width: 16, projection_width: 8}", "training.precision=fp16")),
        (1, ("method={name: byol, hidden_width: 16, projection_width: 8}", "training.optimizer.name=adamw")),
        (1, (*EVERY_METHOD["dino"], "training.optimizer.name=adamw", "resources.micro_batch_size=16")),
        (1, EVERY_METHOD["dino with BatchNorm"]),
        (1, EVERY_METHOD["barlow_twins"]),
        (1, (*EVERY_METHOD["vicreg"], "training.optimizer.learning_rate=0.001")),
        (1, ("method={name: hcl, hidden_width: 16, projection_width: 8}", "training.images_per_class=2")),
        (1, ("method={name: hmlc, hidden_width: 16, projection_width: 8}", "training.images_per_class=2")),
        (1, ("method={name: cross_entropy}", "encoder.frozen=[conv1, bn1, layer1]", "training.images_per_class=4")),
        (1, (*EVERY_METHOD["lcr"], "training.optimizer.name=adamw")),
        (1, EVERY_METHOD["sam_ssl_bilinear"]),
        (1, EVERY_METHOD["lewel on mocov2"]),
        (1, ("method.base={name: simsiam, hidden_width: 32, projection_width: 16, predictor_width: 8}",)),
        (1, (*EVERY_METHOD["both on byol"], "training.optimizer.name=adamw")),
        (1, (*EVERY_METHOD["both on dino"], RECIPES, "resources.micro_batch_size=16")),
    ],
    ids=[
        *(
            "both",
            "mocov2 in micro-batches",
            "decoder",
            "random in bf16",
            "simclr in fp16",
            "byol by adamw",
            "dino by adamw in micro-batches",
            "dino with BatchNorm",
            "barlow_twins",
            "vicreg",
            "hcl in balanced batches",
            "hmlc",
        ),
        *("cross_entropy, partly frozen", "lcr by adamw", "sam_ssl_bilinear", "lewel on mocov2", "both on simsiam"),
        *("both on byol by adamw", "both on dino in micro-batches"),
    ],
)
def test_interrupted_and_resumed_equals_straight(
    epochs: int,
    overrides: tuple[str, ...],
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, steps = tiny_config(f"training.epochs={epochs}", *overrides), 6 * epochs
    straight = execute(config, tmp_path / "straight")
    assert len(straight.metrics.read_text().splitlines()) == steps
    interrupt_at(steps // 2 - 1, monkeypatch)
    with pytest.raises(Interrupted) as caught:
        execute(config, tmp_path / "stopped")
    assert caught.value.code == EXIT_INTERRUPTED
    stopped = RunFolder(tmp_path / "stopped" / "runs" / fingerprints.run_name(config))
    assert [path.name for path in stopped.checkpoints.iterdir()] == [f"step-{steps // 2 - 1:08d}"]
    assert stopped.failure() is None
    assert stopped.trained() is None
    execute(config, tmp_path / "stopped")
    networks = tuple(file.name for file in straight.path.glob("*.safetensors"))
    assert "encoder.safetensors" in networks
    assert_same(straight, stopped, networks)
    assert not stopped.checkpoints.exists()


def test_stopped_after_the_last_step_it_still_knows_its_last_metrics(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("method.noise.variant=none", "training.epochs=1")
    interrupt_at(6, monkeypatch)
    with pytest.raises(Interrupted):
        execute(config, tmp_path)
    record = execute(config, tmp_path).trained()
    assert record is not None
    assert record.steps == 6
    assert record.metrics["loss"] > 0


@pytest.mark.slow
def test_killed_and_run_again_equals_straight(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    """kill -9 in the middle: the steps since the last checkpoint are done again."""
    config = tiny_config("training.epochs=4", "resources.checkpoint_every_s=0.3")
    (tmp_path / "config.yaml").write_text(fingerprints.to_yaml(config))
    out = tmp_path / "killed"
    killed = RunFolder(out / "runs" / fingerprints.run_name(config))
    command = [sys.executable, "-m", "fgssl", "train", str(tmp_path / "config.yaml"), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(killed.metrics.read_text().splitlines() if killed.metrics.exists() else []) < 5 or not any(
            killed.checkpoints.glob("step-*")
        ):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert killed.trained() is None
    execute(config, out)
    assert_same(execute(config, tmp_path / "straight"), killed)
    steps = [json.loads(line)["step"] for line in killed.metrics.read_text().splitlines()]
    assert steps == list(range(1, 25))


def test_a_finished_run_is_left_alone(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny_config("training.epochs=1", "method.noise.variant=none")
    folder = execute(config, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    execute(config, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before


def test_a_batch_larger_than_the_dataset(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny_config("training.global_batch_size=256", "method.base.queue_size=256")
    with pytest.raises(DataError, match=r"global_batch_size: 256 exceeds the 192 training images of dataset .toy."):
        execute(config, tmp_path)
