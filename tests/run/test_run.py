"""A real run and its folder: records, errors, and state that several runs in a process share."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import torch

from fgssl.__main__ import invoke
from fgssl.data.location import shards_folder
from fgssl.errors import CheckpointError, DataError, SettingsError, UserError
from fgssl.interruption import Interrupted
from fgssl.run import execution
from fgssl.run.execution import execute
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.settings.layers import Layer, nested
from fgssl.store.run_folder import RunFolder
from fgssl.training.finite import FiniteCheck

T = TypeVar("T")

TINY = {
    "data": {"toy": {"train_images_per_species": 4, "test_images_per_species": 2, "image_size": 16}},
    "views": {"image_size": 16},
    "encoder": {
        "name": "resnet18",
        "arguments": {
            "channels": [8, 8, 8, 8],
            "layers": [1, 1, 1, 1],
            "stem_type": "deep",
            "stem_width": 4,
            "output_stride": 16,
        },
        "batch_norm_group_size": 16,
    },
    "method": {"name": "mocov2", "queue_size": 64, "hidden_width": 16, "projection_width": 8},
    "training": {"epochs": 2, "global_batch_size": 32},
    "evaluation": {"linear": {"epochs": 2, "learning_rates": [1.0]}},
}


def tiny(**overrides: object) -> Config:
    """Return a config where the argument `a__b=1` sets a.b."""
    mapping = dict(TINY)
    for key, value in overrides.items():
        mapping = Layer(mapping).merge(nested(key.replace("__", "."), value), configs.CHOICES)
    return configs.parse(mapping, "test")


def present(record: T | None) -> T:
    assert record is not None
    return record


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output folder with one finished run."""
    folder = tmp_path_factory.mktemp("out")
    execute(tiny(), folder)
    return folder


def test_a_finished_run_records_what_made_it(out):
    folder = RunFolder(out / "runs" / fingerprints.run_name(tiny()))
    trained, measures = present(folder.trained()), present(folder.evaluation(tiny()))
    assert trained.steps == 6
    assert trained.data_version == measures.data_version
    (environment,) = trained.environments
    assert environment.code_version == measures.code_version
    assert (environment.processes, environment.engine, environment.threads) == (1, "ddp", 1)
    assert environment.versions["processor"]
    assert environment.versions["denormals"] == "flushed"
    assert trained.start == {"encoder": None, "decoder": None, "classifier": None}
    assert not folder.checkpoints.exists()
    logged = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert logged[-1]["step"] == 6
    assert trained.metrics["loss"] == logged[-1]["loss"]
    assert len(list(folder.path.iterdir())) <= 11  # a network file system may limit them; figures add a map
    assert folder.progress() is None


def test_a_fault_that_users_can_correct_leaves_its_message_and_any_other_its_traceback(tmp_path, monkeypatch):
    config = tiny(seed=8)
    folder = RunFolder.in_output(tmp_path, fingerprints.run_name(config))
    for error, begin in ((DataError("photos: no labels"), "photos: no labels"), (KeyError("a"), "Traceback")):
        monkeypatch.setattr("fgssl.run.execution.open_splits", _raising(error))
        with pytest.raises(type(error)):
            execute(config, tmp_path)
        assert present(folder.failure()).splitlines()[0].startswith(begin)


def _raising(error: Exception):
    def fail(*arguments):
        raise error

    return fail


def test_a_finished_run_is_not_touched_again(out):
    folder = RunFolder(out / "runs" / fingerprints.run_name(tiny()))
    before = {file: file.stat().st_mtime_ns for file in folder.path.iterdir()}
    execute(tiny(), out)
    assert {file: file.stat().st_mtime_ns for file in folder.path.iterdir()} == before


def test_runs_in_one_process_share_nothing(out, tmp_path):
    """Accelerate keeps its precision for the process; a job makes runs of every precision."""
    execute(tiny(training__precision="bf16"), tmp_path)
    again = execute(tiny(), tmp_path)
    first = RunFolder(out / "runs" / fingerprints.run_name(tiny()))
    assert again.encoder.read_bytes() == first.encoder.read_bytes()


def test_other_evaluation_settings_train_nothing_again(out):
    config = tiny(evaluation__label_level=1)
    folder = RunFolder(out / "runs" / fingerprints.run_name(config))
    trained = (folder.path / "trained.json").stat().st_mtime_ns
    execute(config, out)
    assert (folder.path / "trained.json").stat().st_mtime_ns == trained
    assert present(folder.evaluation(config)).measures != present(folder.evaluation(tiny())).measures


def test_evaluation_on_another_packing_is_refused(out, tmp_path):
    other = tiny(data__toy__seed=5)
    execute(other, tmp_path)
    shards = shards_folder(other.data, tmp_path / "data")
    config = dataclasses.replace(
        tiny(evaluation__linear__epochs=3), data=dataclasses.replace(tiny().data, folder=str(shards))
    )
    with pytest.raises(DataError, match="trained on version"):
        execute(config, out)


def test_evaluate_as_a_command(out, capsys):
    folder = out / "runs" / fingerprints.run_name(tiny())
    assert invoke(["evaluate", str(folder), "evaluation.linear.epochs=4"]) == 0
    assert "linear_100" in capsys.readouterr().out
    with pytest.raises(SettingsError, match="changes how the run was trained"):
        invoke(["evaluate", str(folder), "training.epochs=4"])


@pytest.fixture
def interrupted(tmp_path, monkeypatch) -> tuple[Config, Path]:
    """Return a run that was interrupted after its first steps and saved a checkpoint; it starts from another run."""
    start = execute(tiny(seed=1, evaluation=None), tmp_path)
    config = tiny(start={"encoder": {"run": start.path.name}}, training__epochs=4)
    add = FiniteCheck.add

    def stop_at_step_3(check, batch, *numbers):
        if batch.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        add(check, batch, *numbers)

    with monkeypatch.context() as patch:
        patch.setattr(FiniteCheck, "add", stop_at_step_3)
        with pytest.raises(Interrupted):
            execute(config, tmp_path)
    return config, tmp_path


def test_a_checkpoint_can_be_evaluated_alone(interrupted, capsys):
    config, out = interrupted
    (checkpoint,) = (out / "runs" / fingerprints.run_name(config) / "checkpoints").iterdir()
    assert invoke(["evaluate", str(checkpoint)]) == 0
    assert "mAP" in capsys.readouterr().out


def test_other_start_weights_are_not_mixed_in(interrupted):
    """The stage that a run started from was made anew meanwhile: its checkpoint must not be continued as if nothing."""
    config, out = interrupted
    start = out / "runs" / str(config.start.encoder.run)
    other = execute(tiny(seed=2, evaluation=None), out)
    shutil.copyfile(other.encoder, start / "encoder.safetensors")
    with pytest.raises(CheckpointError, match="other weights"):
        execute(config, out)


def test_the_code_of_every_launch_is_recorded(interrupted, monkeypatch):
    config, out = interrupted
    monkeypatch.setattr("fgssl.store.provenance.code_version", lambda: "edited")
    folder = execute(config, out)
    versions = [environment.code_version for environment in present(folder.trained()).environments]
    assert len(versions) == 2
    assert versions[-1] == "edited"


def test_labels_that_cannot_be_measured_are_said_before_training(tmp_path):
    config = tiny(evaluation__label_level=2)
    with pytest.raises(DataError, match="label_level: there is no level 2"):
        execute(config, tmp_path)
    assert not list((tmp_path / "runs").glob("*/trained.json"))


@pytest.mark.parametrize("finished", [True, False])
def test_a_follower_stages_shards_only_for_a_training(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    world: Any = SimpleNamespace(rank=1, broadcast=lambda value: None)  # the first process has nothing to train
    folder = RunFolder.in_output(out if finished else tmp_path, fingerprints.run_name(tiny()))
    staged: list[Path] = []
    monkeypatch.setattr(execution, "stage_shards", lambda config, out: staged.append(out))
    execution._follow(tiny(), out, folder, world, None)
    assert staged == ([] if finished else [out])


def test_exhausted_memory_of_a_follower_comes_with_advice(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    monkeypatch.setattr(execution, "stage_shards", _raising(torch.OutOfMemoryError("tried to allocate")))
    with pytest.raises(UserError, match=r"lower resources\.micro_batch_size"):
        execution._follow(tiny(), tmp_path, folder, SimpleNamespace(rank=1, size=2), None)  # type: ignore[arg-type]
    assert (tmp_path / "failure-rank-1.txt").read_text().startswith(f"{tmp_path}: the GPU's memory is exhausted; lower")
