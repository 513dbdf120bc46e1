"""Reports of a training: metrics that survive an interruption, progress for other programs, and plain text."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from fgssl.errors import UserError
from fgssl.store.lease import Lease
from fgssl.store.run_folder import RunFolder
from fgssl.training.reporter import Reporter


def reporter(lease: Lease, start_step: int = 0, total_steps: int = 10) -> Reporter:
    return Reporter(lease, "mocov2 seed 0", start_step, total_steps, images_per_step=32)


def lines(lease: Lease) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (lease.path / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_a_line_a_step(lease: Lease) -> None:
    with reporter(lease) as telling:
        telling.log(1, {"loss": 2.5, "learning_rate": 0.1})
        telling.log(2, {"loss": 2.0, "learning_rate": 0.1})
    assert lines(lease) == [
        {"step": 1, "loss": 2.5, "learning_rate": 0.1},
        {"step": 2, "loss": 2.0, "learning_rate": 0.1},
    ]
    assert telling.last == {"loss": 2.0, "learning_rate": 0.1}


def test_lines_after_the_last_checkpoint_are_cut(lease: Lease) -> None:
    with reporter(lease) as telling:
        for step in range(1, 8):
            telling.log(step, {"loss": float(step)})
    with (lease.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # what kill -9 leaves
    resumed = reporter(lease, start_step=5)
    assert [line["step"] for line in lines(lease)] == [1, 2, 3, 4, 5]
    assert resumed.last == {"loss": 5.0}
    with resumed as telling:
        telling.log(6, {"loss": 6.5})
    assert lines(lease)[-1] == {"step": 6, "loss": 6.5}


def test_progress_and_plain_lines(lease: Lease, capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(lease, start_step=4, total_steps=6) as telling:
        telling.advance(5, 1.25)
        telling.advance(6, 1.0)
    progress = RunFolder(lease.path).progress()
    assert progress is not None
    assert (progress.step, progress.total_steps, progress.loss) == (6, 6, 1.0)
    assert progress.images_per_s > 0
    assert abs(time.time() - progress.updated) < 60
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("mocov2 seed 0: step 6/6, loss 1.0000, ")
    assert "images/s, ETA 0 s" in told[-1]


def test_a_terminal_gets_a_bar(
    lease: Lease, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    with reporter(lease, total_steps=2) as telling:
        telling.advance(1, 1.25)
        telling.advance(2, 1.125)
    told = capsys.readouterr().err
    assert "mocov2 seed 0" in told
    assert "2/2" in told
    assert "loss 1.1250" in told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the disk that is always full")
def test_a_full_disk_says_so(lease: Lease) -> None:
    telling = reporter(lease)
    (lease.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written: No space left on device"):
        telling.log(1, {"loss": 1.0})


def test_metrics_that_are_not_finite_are_null(lease: Lease) -> None:
    with reporter(lease) as telling:
        telling.log(1, {"loss": 2.5, "positives": math.nan})
    assert lines(lease) == [{"step": 1, "loss": 2.5, "positives": None}]
    resumed = reporter(lease, start_step=1)
    assert resumed.last["loss"] == 2.5
    assert math.isnan(resumed.last["positives"])
