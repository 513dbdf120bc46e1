"""One config -> one run folder: train (or resume), export, evaluate. Started again, it does only what is missing."""

import contextlib
import gc
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from fgssl import config as configs
from fgssl import machine, randomness
from fgssl.config import Config
from fgssl.data.loader import RawBatch, original_batches, training_batches
from fgssl.data.location import ensure_toy, shards_folder
from fgssl.data.manifest import MANIFEST, Manifest
from fgssl.data.sampling import steps_per_epoch
from fgssl.data.shards import ShardedSplit
from fgssl.encoders.build import build_encoder
from fgssl.encoders.freezing import train_unfrozen
from fgssl.encoders.weights import encoder_card, file_sha256, load_weights, read_weights, weights_bytes
from fgssl.errors import DataError, Problem, SettingsError, UserError
from fgssl.evaluation.measure import Measurement
from fgssl.methods.build import RANDOM_START, Start, build_method, start_encoder
from fgssl.methods.method import Method
from fgssl.methods.settings import UntouchedSettings
from fgssl.provenance import code_version, versions
from fgssl.requirements import cautions, unmet
from fgssl.run_folder import Lease, RunFolder, start_file
from fgssl.training import checkpoint
from fgssl.training.interruption import Interruption
from fgssl.training.optim import build_optimizer
from fgssl.training.reporter import Reporter
from fgssl.training.trainer import Trainer
from fgssl.views import colour


def execute(config: Config, out: Path, folder: RunFolder | None = None) -> RunFolder:
    """Make the run folder of `config` complete, in `out`/runs unless `folder` is given; returns it.

    Raises `UserError` for what a user can mend, `Interrupted` when told to stop (a checkpoint is saved then). The
    traceback of a failure lies in failure.txt.
    """
    code_version()  # of the code that runs, before anyone edits a file
    folder = folder or RunFolder(out / "runs" / configs.run_name(config))
    if folder.done(config):
        _require_same_data(config, folder, out)
        return folder
    with folder.lease(config) as lease:
        if folder.done(config):  # by another process, between the look and the lease
            return folder
        try:
            _complete(config, out, lease)
        except Exception as error:
            with contextlib.suppress(UserError):  # a full disk must not hide the failure itself
                lease.write("failure.txt", traceback.format_exc())
            if isinstance(error, torch.OutOfMemoryError):
                advice = "lower resources.micro_batch_size (results stay the same up to rounding)"
                raise UserError(f"{folder.path}: the GPU's memory is exhausted; {advice}: {error}") from error
            raise
        finally:
            gc.collect()  # a process makes several runs: the networks of this one must not wait in memory
        lease.clear_failure()
    return folder


def _complete(config: Config, out: Path, lease: Lease) -> None:
    folder = lease.folder
    accelerator = machine.accelerator(config.resources, config.training.precision)
    shards = _shards(config, out)
    train = ShardedSplit(shards, "train")
    _require(config, train)
    test = None if config.evaluation is None else ShardedSplit(shards, "test")
    if test is not None:
        _measurement(config, accelerator.device).check(train, test)
    if folder.trained() is None:
        _train_and_export(config, out, accelerator, train, lease)
    checkpoint.delete_all(folder.checkpoints)
    if test is not None and folder.evaluation(config) is None:
        _require_same_data(config, folder, out)
        began = time.monotonic()
        encoder = build_encoder(config.encoder, config.views.image_size)
        load_weights(encoder, folder.encoder)
        classifier = None
        if config.evaluation is not None and config.evaluation.classifier:
            classifier = _linear(folder.path / "classifier.safetensors")
        measures = _measures(config, encoder, classifier, train, test, accelerator.device)
        provenance = {
            "code_version": code_version(),
            "data_version": train.version,
            "device": machine.device_name(accelerator.device),
        }
        lease.write_evaluation(config, measures | {"wall_s": time.monotonic() - began} | provenance)


def evaluate_again(config: Config, folder: RunFolder) -> dict[str, Any]:
    """Measures of a trained run folder under `config`'s evaluation settings; computed once, kept in the folder."""
    if folder.trained() is None:
        raise UserError(
            f"{folder.path}: its training is not complete; finish it with fgssl.train, or give one of its checkpoints"
        )
    return execute(config, folder.path.parent.parent, folder).evaluation(config) or {}


def evaluate_checkpoint(config: Config, folder: RunFolder, path: Path) -> dict[str, Any]:
    """Measures of the encoder in one checkpoint of `folder`; written nowhere."""
    shards = _shards(config, folder.path.parent.parent)
    train = ShardedSplit(shards, "train")
    _require(config, train)
    test = ShardedSplit(shards, "test")
    accelerator = machine.accelerator(config.resources, config.training.precision)
    _measurement(config, accelerator.device).check(train, test)
    found = checkpoint.read(path)
    found.require(configs.training_fingerprint(config), train.version)
    method = build_method(config, RANDOM_START, _classes(train))
    method.load_state_dict(found.state["method"])
    networks = method.exports()
    return _measures(config, networks["encoder"], networks.get("classifier"), train, test, accelerator.device)


def _measures(
    config: Config,
    encoder: nn.Module,
    classifier: nn.Module | None,
    train: ShardedSplit,
    test: ShardedSplit,
    device: torch.device,
) -> dict[str, Any]:
    encoder.to(device).to(memory_format=torch.channels_last)
    return dict(_measurement(config, device)(encoder, train, test, classifier))


def _linear(file: Path) -> nn.Linear:
    """The classifier that `cross_entropy` exported."""
    weights = read_weights(file)
    classes, width = weights["weight"].shape
    classifier = nn.Linear(width, classes)
    classifier.load_state_dict(weights)
    return classifier


def _classes(images: ShardedSplit) -> list[int]:
    return [len(level.classes) for level in images.levels]


def _measurement(config: Config, device: torch.device) -> Measurement:
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


# ---------------------------------------------------------------------------------------- what it needs


def _shards(config: Config, out: Path) -> Path:
    if config.data.dataset == "toy" and config.data.folder is None:
        return ensure_toy(config.data, out / "data")
    return shards_folder(config.data, out / "data")


def _require(config: Config, images: ShardedSplit) -> None:
    """Refuse data that lacks what `config` needs."""
    if lacking := unmet(config, images.manifest):
        raise DataError("\n".join(f"{images.folder}: {message}" for message in lacking))


def _require_same_data(config: Config, folder: RunFolder, out: Path) -> None:
    """Refuse other shards than the run was trained on; where there are none any more, nothing can be mixed up."""
    shards = Path(config.data.folder).expanduser() if config.data.folder else shards_folder(config.data, out / "data")
    if not (shards / MANIFEST).is_file():
        return
    trained, present = (folder.trained() or {})["data_version"], Manifest.read(shards).version
    if trained != present:
        raise DataError(
            f"{folder.path}: trained on version {trained[:12]} of {config.data.dataset}, {shards} holds "
            f"{present[:12]}: give the folder of the same packing as data.folder, or train again with another --out"
        )


def start_files(config: Config, out: Path) -> Start:
    """The weights files that `config` starts from; all missing ones in one error."""
    files = RANDOM_START | {name: start_file(source, name, out) for name, source in config.start.sources.items()}
    problems = [
        Problem("config", f"start.{name}", f"{file}: no such weights file; run its stage first or give another path")
        for name, file in files.items()
        if file is not None and not file.is_file()
    ]
    if problems:
        raise SettingsError(problems)
    return files


# ------------------------------------------------------------------------------------------ training


def _train_and_export(config: Config, out: Path, accelerator: Accelerator, train: ShardedSplit, lease: Lease) -> None:
    """Leave the trained networks and, last of all, trained.json in the run folder."""
    start = start_files(config, out)
    start_sha256 = {name: file_sha256(file) if file else None for name, file in start.items()}
    record: dict[str, Any]
    if isinstance(config.method, UntouchedSettings):
        networks: dict[str, nn.Module] = {"encoder": start_encoder(config, start)}
        record = {"steps": 0, "wall_s": 0.0, "code_versions": [code_version()], "metrics": {}}
    else:
        method = build_method(config, start, _classes(train))
        record = _train(config, accelerator, method, train, start_sha256, lease)
        networks = method.exports()
    for name, network in networks.items():
        lease.write(f"{name}.safetensors", weights_bytes(network))
    lease.write("encoder.json", encoder_card(config.encoder))
    lease.write(
        "trained.json",
        record
        | {
            "data_version": train.version,
            "start": start_sha256,
            "code_version": code_version(),
            "threads": config.resources.threads,
            "device": machine.device_name(accelerator.device),
            "versions": versions(),
        },
    )


def _train(
    config: Config,
    accelerator: Accelerator,
    method: Method,
    train: ShardedSplit,
    start_sha256: dict[str, str | None],
    lease: Lease,
) -> dict[str, Any]:
    """Train `method`, from its newest checkpoint if there is one; what to record of it."""
    training, resources, folder = config.training, config.resources, lease.folder
    for caution in cautions(config, train.manifest):
        print(f"WARNING: {caution}", file=sys.stderr)
    method.to(accelerator.device).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(training.optimizer, method.parameter_groups())
    prepared_method, prepared_optimizer = accelerator.prepare(method, optimizer)
    trainer = Trainer(
        method=prepared_method,
        optimizer=prepared_optimizer,
        accelerator=accelerator,
        settings=training,
        views=config.views,
        seed=config.seed,
        total_steps=training.epochs * steps_per_epoch(len(train), training.global_batch_size),
        micro_batch_size=resources.micro_batch_size or training.global_batch_size,
        log_every_steps=resources.log_every_steps,
        checkpoint_every_s=resources.checkpoint_every_s,
    )
    identity = checkpoint.Identity(configs.training_fingerprint(config), train.version, start_sha256)
    code_versions = [code_version()]
    if found := checkpoint.latest(folder.checkpoints, identity):
        trainer.resume(found.step, found.state)
        code_versions = list(dict.fromkeys([*found.code_versions, code_version()]))
    else:
        train_unfrozen(method)
        method.prepare(lambda number: _originals(config, train, number, accelerator.device))

    def batches(steps: range) -> Iterator[RawBatch]:
        return training_batches(
            train,
            config.views,
            num_views=method.num_views,
            with_original=method.needs_original,
            seed=config.seed,
            steps=steps,
            global_batch_size=training.global_batch_size,
            images_per_class=training.images_per_class,
            threads=resources.loader_threads,
        )

    def save(state: dict[str, Any]) -> None:
        whole = checkpoint.Checkpoint(trainer.step, state, identity, code_versions)
        checkpoint.save(folder.checkpoints, whole, lease, resources.keep_checkpoints)

    title = f"{config.method.name} seed {config.seed}"
    with (
        Interruption() as interruption,
        Reporter(lease, title, trainer.step, trainer.total_steps, training.global_batch_size) as reporter,
    ):
        trainer.train(batches, reporter, save, interruption)
    accelerator.free_memory()
    return {
        "steps": trainer.step,
        "wall_s": trainer.wall_s,
        "code_versions": code_versions,
        "metrics": reporter.last,
    }


def _originals(config: Config, train: ShardedSplit, number: int, device: torch.device) -> Iterator[Tensor]:
    """Resized images in BatchNorm groups, (group, C, H, W) each: `number` of them by seed, or all."""
    group = config.encoder.batch_norm_group_size
    whole_groups = min(number, len(train)) // group * group
    rows = randomness.permutation(config.seed, "bank", length=len(train))[:whole_groups]
    for raw in original_batches(train, config.views, rows, group, config.resources.loader_threads):
        yield colour.normalized(colour.to_unit(torch.from_numpy(raw.images[:, 0]).to(device)), config.views)
