"""Curves of a training in TensorBoard and W&B: a copy of metrics.jsonl, also after an interruption."""

import dataclasses
import importlib.util
import json
import math
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from accelerate import PartialState

from fgssl.errors import UserError
from fgssl.interruption import Interrupted
from fgssl.run.execution import execute
from fgssl.settings.config import Config
from fgssl.settings.fingerprints import training_fingerprint
from fgssl.store.lease import Lease
from fgssl.training.reporter import Reporter
from fgssl.training.trackers import Trackers, started


class Recorder:
    """Tracker that keeps what it is given, and fails at one step."""

    name = "recorder"

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at, self.logged, self.finished = fails_at, list[tuple[int, dict[str, float]]](), False

    def log(self, values: dict[str, float], step: int) -> None:
        if step == self.fails_at:
            raise ConnectionResetError("Connection lost")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


def report(lease: Lease, trackers: Trackers, start_step: int = 0) -> Reporter:
    return Reporter(lease, "title", start_step, 10, 32, trackers)


def test_a_resumed_training_hands_on_the_steps_before_it_and_none_twice(lease: Lease) -> None:
    first, second = Recorder(), Recorder()
    with report(lease, Trackers([first])) as reporter:
        for step in range(1, 8):
            reporter.log(step, {"loss": float(step), "positives": math.nan})
    with report(lease, Trackers([second]), start_step=5) as reporter:
        reporter.log(6, {"loss": 6.5})
    assert [step for step, _ in first.logged] == [1, 2, 3, 4, 5, 6, 7]
    assert second.logged == [*[(step, {"loss": float(step)}) for step in range(1, 6)], (6, {"loss": 6.5})]


def test_a_tracker_that_fails_is_left_out_with_a_warning(lease: Lease, capsys: pytest.CaptureFixture[str]) -> None:
    failing, other = Recorder(fails_at=2), Recorder()
    trackers = Trackers([failing, other])
    with report(lease, trackers) as reporter:
        for step in range(1, 4):
            reporter.log(step, {"loss": 1.0})
    trackers.finish()
    assert [step for step, _ in failing.logged] == [1]
    assert [step for step, _ in other.logged] == [1, 2, 3]
    assert (failing.finished, other.finished) == (False, True)
    assert len((lease.path / "metrics.jsonl").read_text().splitlines()) == 3
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("WARNING")]
    assert warning == "WARNING: resources.trackers: recorder stops here: ConnectionResetError('Connection lost')"


def with_trackers(config: Config, *names: Literal["tensorboard", "wandb"]) -> Config:
    return dataclasses.replace(config, resources=dataclasses.replace(config.resources, trackers=names))


def test_trackers_change_no_fingerprint(tiny_config: Any) -> None:
    config = tiny_config()
    assert training_fingerprint(with_trackers(config, "tensorboard")) == training_fingerprint(config)


def test_a_missing_package_ends_the_run_before_it_begins(tiny_config: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"resources\.trackers: wandb is not installed: pip install wandb, or leave it"):
        execute(with_trackers(tiny_config(), "wandb"), tmp_path)


def interrupted_run(config: Config, out: Path) -> tuple[Path, dict[int, float]]:
    """Return the folder of a run that was interrupted and resumed, and its losses by step."""
    with pytest.raises(Interrupted):
        execute(config, out, last_step=3)
    (run,) = (out / "runs").iterdir()
    later = {"step": 4, "loss": 99.0}  # a step after the checkpoint, which is done again
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(later) + "\n")
    execute(config, out)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return run, {line["step"]: line["loss"] for line in lines}


def test_tensorboard_reads_the_curve_of_an_interrupted_run(tiny_config: Any, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("tensorboard is not installed: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, losses = interrupted_run(with_trackers(tiny_config(), "tensorboard"), tmp_path)
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    curve = events.Scalars("loss")
    assert [event.step for event in curve] == list(losses) == list(range(1, 13))
    assert [event.value for event in curve] == pytest.approx(list(losses.values()))
    assert "learning_rate" in events.Tags()["scalars"]


def test_wandb_writes_one_offline_run(tiny_config: Any, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    run, losses = interrupted_run(with_trackers(tiny_config(), "wandb"), tmp_path)
    (file,) = run.glob("wandb/offline-run-*/run-*.wandb")
    content, place, found = file.read_bytes(), 7, dict[int, float]()
    assert len(content) < 32768  # one block, in which each record follows its checksum, length and type
    while place < len(content):
        _, length, _ = struct.unpack("<IHB", content[place : place + 7])
        record = Record()
        record.ParseFromString(content[place + 7 : place + 7 + length])
        place += 7 + length
        items = {".".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        if items:
            found[int(items["_step"])] = float(items["loss"])
    assert found == pytest.approx(losses)


def test_wandb_is_told_to_stay_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def init(**given: Any) -> SimpleNamespace:
        calls.append(("init", given))
        return SimpleNamespace(finish=lambda: None)

    fake = SimpleNamespace(
        Settings=dict,
        setup=lambda settings: calls.append(("setup", settings)),
        init=init,
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    PartialState(cpu=True)
    with started(["wandb"], tmp_path / "mocov2-seed0", {"seed": 0}):
        assert [name for name, _ in calls] == ["setup", "init"]
    assert [given["mode"] for _, given in calls] == ["offline", "offline"]
    assert (calls[1][1]["id"], calls[1][1]["config"]) == ("mocov2-seed0", {"seed": 0})
