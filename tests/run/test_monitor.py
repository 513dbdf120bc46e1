"""Numbers of the features that are logged during training, and that change nothing else."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fgssl import randomness
from fgssl.collapse import effective_rank, normalized_std
from fgssl.data.loader import original_batches
from fgssl.encoders.weights import load_weights
from fgssl.errors import SettingsError
from fgssl.interruption import Interrupted
from fgssl.methods.build import RANDOM_START, start_encoder
from fgssl.run.data import open_train
from fgssl.run.encoding import of_features
from fgssl.run.execution import execute
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.store.run_folder import RunFolder
from fgssl.views.normalization import normalized, to_unit
from tests.conftest import EVERY_METHOD

SIMCLR = "method={name: simclr, hidden_width: 16, projection_width: 8}"
MONITOR = ("resources.monitor_every_epochs=2", "resources.monitor_images=100")
KEYS = {"monitor_knn", "monitor_feature_std", "monitor_effective_rank"}


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def test_it_changes_no_weight_and_no_name(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    without = tiny_config(SIMCLR, "training.epochs=5")
    config = tiny_config(SIMCLR, "training.epochs=5", *MONITOR)
    assert fingerprints.run_name(config) == fingerprints.run_name(without)
    plain, monitored = execute(without, tmp_path / "plain"), execute(config, tmp_path / "monitored")
    records = [folder.trained() for folder in (plain, monitored)]
    assert records[0] is not None
    assert records[1] is not None
    assert records[0].state_sha256 == records[1].state_sha256
    found = lines(monitored)
    assert [line["step"] for line in found if KEYS & line.keys()] == [12, 24]  # 6 steps an epoch
    assert [{key: line[key] for key in line.keys() - KEYS} for line in found] == lines(plain)


def test_a_line_of_its_own_between_logged_steps(
    tiny_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(SIMCLR, "training.epochs=2", "resources.log_every_steps=5", "resources.monitor_every_epochs=1")
    found = lines(execute(config, tmp_path))
    assert [line["step"] for line in found] == [5, 6, 10, 12]
    shown = capsys.readouterr().err.splitlines()[-1]
    numbers = found[-1]
    assert f", kNN {numbers['monitor_knn']:.3g}, rank {numbers['monitor_effective_rank']:.3g}, std " in shown


def test_interrupted_and_resumed_equals_straight(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny_config(SIMCLR, "training.epochs=4", *MONITOR)
    straight = execute(config, tmp_path / "straight").metrics.read_text()
    for stop in (12, 13):  # where the features are looked at, and after
        with pytest.raises(Interrupted):
            execute(config, tmp_path / "stopped", last_step=stop)
    assert execute(config, tmp_path / "stopped").metrics.read_text() == straight


@pytest.mark.parametrize("method", [(SIMCLR,), EVERY_METHOD["dino"]], ids=["simclr", "dino"])
def test_numbers_are_those_of_the_exported_encoder(
    method: tuple[str, ...], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    """The exported encoder of DINO is the teacher's."""
    config = tiny_config(*method, *MONITOR)
    folder = execute(config, tmp_path)
    encoder = start_encoder(config, RANDOM_START)
    load_weights(encoder, folder.encoder)
    train = open_train(config, tmp_path)
    rows = randomness.permutation(config.seed, "monitor", length=len(train))[:100]
    (raw,) = original_batches(train, config.views, rows, 100, 1)
    with torch.no_grad():
        features = encoder.eval()(normalized(to_unit(torch.from_numpy(raw.images[0])), config.views))
    found = lines(folder)[-1]
    assert found["monitor_feature_std"] == pytest.approx(float(normalized_std(features.double())), rel=1e-4)
    assert found["monitor_effective_rank"] == pytest.approx(float(effective_rank(features)), rel=1e-4)
    cosines, labels = (unit := F.normalize(features.double())) @ unit.T, raw.labels[:, 0]
    hits = 0
    for query in range(50, 100):
        votes = dict.fromkeys(labels, 0.0)
        for voter in cosines[query, :50].topk(20).indices.tolist():
            votes[labels[voter]] += math.exp(cosines[query, voter] / 0.07)
        hits += max(votes, key=lambda label: votes[label]) == labels[query]
    assert found["monitor_knn"] == pytest.approx(100 * hits / 50)


def test_without_labels_there_is_no_knn() -> None:
    found = of_features(torch.randn(10, 4), np.zeros((10, 0), dtype=np.int64))
    assert found.keys() == KEYS - {"monitor_knn"}


def test_features_that_are_not_finite_do_not_end_the_training() -> None:
    found = of_features(torch.full((10, 4), torch.nan), np.zeros((10, 1), dtype=np.int64))
    assert found.keys() == KEYS
    assert all(map(math.isnan, found.values()))


@pytest.mark.parametrize("key", ["resources.monitor_every_epochs=1", "views.contrastive_crop=true"])
def test_zero3_is_refused(tiny_config: Callable[..., Config], key: str) -> None:
    with pytest.raises(SettingsError, match=r"zero3 divides the encoder among the processes: take ddp or zero0 to"):
        tiny_config(SIMCLR, key, "resources.engine=zero3")
