"""Measuring half of a run: measures of an encoder on the shards."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from fgssl import device as devices
from fgssl.data.shards import ShardedSplit
from fgssl.encoders.stand_ins import measured_encoder
from fgssl.encoders.weights import load_weights, read_weights
from fgssl.evaluation.features import Features
from fgssl.evaluation.measure import measure
from fgssl.methods.build import RANDOM_START, build_method
from fgssl.pooling import POOLINGS, PartPooling, Pooled
from fgssl.progress import shown
from fgssl.run.data import open_splits
from fgssl.run.training import classes_of
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.store.features import KeptFeatures, Origin, read_features
from fgssl.store.files import file_sha256
from fgssl.store.lease import Lease
from fgssl.store.provenance import code_version
from fgssl.store.records import Evaluation, Measures, evaluation_file, outcomes_file
from fgssl.store.run_folder import RunFolder
from fgssl.training import checkpoint


def evaluate_checkpoint(config: Config, folder: RunFolder, path: Path) -> Measures:
    """Return the measures of the encoder in one checkpoint of `folder`; nothing is written."""
    train, test = open_splits(config, folder.path.parent.parent)
    assert test is not None
    device = devices.world(config.resources, config.training).device
    found = checkpoint.read(path)
    found.require(fingerprints.training_fingerprint(config), train.version)
    method = build_method(config, RANDOM_START, classes_of(train))
    method.load_state_dict(found.state["method"])
    networks = method.exports()
    encoder = networks["encoder"]
    if (pooling := _wanted(config).pooling) != "gap":
        encoder = Pooled(encoder, cast(PartPooling, networks[pooling]))
    features = _features(config, encoder, train, test, device, networks.get("classifier"), {})
    try:
        return measure(_wanted(config), features)
    finally:
        torch.set_flush_denormal(False)  # `world` set it, but this may be a program of the user's own


def measure_run(config: Config, lease: Lease, train: ShardedSplit, test: ShardedSplit, device: torch.device) -> None:
    """Measure the exported encoder of a run folder, and write features, outcomes and the record there."""
    folder, began = RunFolder(lease.path), time.monotonic()
    encoder = measured_encoder(config)
    load_weights(encoder, folder.encoder)
    origin = Origin(data_version=train.version, encoder_sha256=file_sha256(folder.encoder))
    if (pooling := _wanted(config).pooling) == "gap":
        kept = read_features(folder.features, origin, ("F32",))
    else:
        encoder, kept = Pooled(encoder, _exported_pooling(folder, pooling)), None
    known = {} if kept is None else {name: torch.from_numpy(one).to(device) for name, one in kept.splits.items()}
    features = _features(config, encoder, train, test, device, _exported_classifier(folder), known)
    measures = measure(_wanted(config), features)
    if (dtype := _wanted(config).keep_features) and pooling == "gap":
        _keep(features, getattr(torch, dtype), origin, lease)
    lease.write(outcomes_file(config), features.outcomes.to_bytes())
    record = Evaluation(
        measures=measures,
        wall_s=time.monotonic() - began,
        code_version=code_version(),
        data_version=train.version,
        device=devices.device_name(device),
        features_bytes=folder.features.stat().st_size if folder.features.is_file() else 0,
        features_code_versions=() if kept is None else tuple(sorted({*kept.encoded_by.values()})),
    )
    lease.write_record(evaluation_file(config), record)


def _wanted(config: Config) -> EvaluationSettings:
    assert config.evaluation is not None
    return config.evaluation


def _features(
    config: Config,
    encoder: nn.Module,
    train: ShardedSplit,
    test: ShardedSplit,
    device: torch.device,
    classifier: nn.Module | None,
    known: Mapping[str, Tensor],
) -> Features:
    encoder.to(device).to(memory_format=torch.channels_last)
    return Features(
        train=train,
        test=test,
        label_level=_wanted(config).label_level,
        seed=config.seed,
        encoder=encoder,
        views=config.views,
        device=device,
        batch_size=config.resources.evaluation_batch_size,
        threads=config.resources.loader_threads,
        classifier=classifier,
        known=known,
        track=shown,
    )


def _exported_classifier(folder: RunFolder) -> nn.Linear | None:
    """Return the classifier that `cross_entropy` exported, or None for other methods."""
    file = folder.path / "classifier.safetensors"
    if not file.is_file():
        return None
    weights = read_weights(file)
    classes, width = weights["weight"].shape
    classifier = nn.Linear(width, classes)
    classifier.load_state_dict(weights)
    return classifier


def _exported_pooling(folder: RunFolder, name: str) -> PartPooling:
    """Return a pooling that the method exported, one of `POOLINGS`."""
    file = folder.path / f"{name}.safetensors"
    parts, channels = read_weights(file)["convolution.weight"].shape[:2]
    pooling = POOLINGS[name](channels, parts)
    load_weights(pooling, file)
    return pooling


def _keep(features: Features, dtype: torch.dtype, origin: Origin, lease: Lease) -> None:
    """Write the features that were just encoded, together with those that an earlier evaluation kept."""
    if not features.encoded:
        return
    file = RunFolder(lease.path).features
    splits = {name: _rounded(found, dtype).cpu().numpy() for name, found in features.encoded.items()}
    now = KeptFeatures(splits=splits, encoded_by=dict.fromkeys(splits, code_version()), origin=origin)
    earlier = None if splits.keys() == {"train", "test"} else read_features(file, origin)
    lease.write(file.name, (now if earlier is None else earlier.updated(now)).to_bytes())


def _rounded(features: Tensor, dtype: torch.dtype) -> Tensor:
    rounded = features.to(dtype)
    return features if (rounded.isinf() & features.isfinite()).any() else rounded
