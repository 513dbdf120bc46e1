"""The measuring half of a run: an encoder and the shards -> measures."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fgssl import device as devices
from fgssl.data.shards import ShardedSplit
from fgssl.encoders.weights import read_weights
from fgssl.evaluation.measure import Measurement
from fgssl.methods.build import RANDOM_START, build_method
from fgssl.run.data import require_fit, shards_for
from fgssl.run.training import classes_of
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.store.run_folder import RunFolder
from fgssl.training import checkpoint


def evaluate_checkpoint(config: Config, folder: RunFolder, path: Path) -> dict[str, Any]:
    """Measures of the encoder in one checkpoint of `folder`; written nowhere."""
    shards = shards_for(config, folder.path.parent.parent)
    train = ShardedSplit(shards, "train")
    require_fit(config, train)
    test = ShardedSplit(shards, "test")
    device = devices.world(config.resources, config.training).device
    measurement(config, device).check(train, test)
    found = checkpoint.read(path)
    found.require(fingerprints.training_fingerprint(config), train.version)
    method = build_method(config, RANDOM_START, classes_of(train))
    method.load_state_dict(found.state["method"])
    networks = method.exports()
    return measures_of(config, networks["encoder"], networks.get("classifier"), train, test, device)


def measures_of(
    config: Config,
    encoder: nn.Module,
    classifier: nn.Module | None,
    train: ShardedSplit,
    test: ShardedSplit,
    device: torch.device,
) -> dict[str, Any]:
    encoder.to(device).to(memory_format=torch.channels_last)
    return dict(measurement(config, device)(encoder, train, test, classifier))


def exported_classifier(file: Path) -> nn.Linear:
    """The classifier that `cross_entropy` exported."""
    weights = read_weights(file)
    classes, width = weights["weight"].shape
    classifier = nn.Linear(width, classes)
    classifier.load_state_dict(weights)
    return classifier


def measurement(config: Config, device: torch.device) -> Measurement:
    assert config.evaluation is not None
    resources = config.resources
    return Measurement(
        config.evaluation,
        config.views,
        config.seed,
        device,
        batch_size=resources.evaluation_batch_size,
        threads=resources.loader_threads,
    )
