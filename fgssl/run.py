"""One config -> one run folder: train (or resume), export, evaluate. Started again, it does only what is missing."""

import contextlib
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from fgssl import config as configs
from fgssl import randomness
from fgssl.config import Config, StartSource
from fgssl.data.loader import RawBatch, original_batches, training_batches
from fgssl.data.location import ensure_toy, shards_folder
from fgssl.data.sampling import steps_per_epoch
from fgssl.data.shards import ShardedSplit
from fgssl.encoders.build import build_encoder
from fgssl.encoders.weights import encoder_card, file_sha256, load_weights, weights_bytes
from fgssl.errors import DataError, Problem, SettingsError, UserError
from fgssl.evaluation.measure import Measurement
from fgssl.methods.build import Start, build_method, start_encoder
from fgssl.methods.method import Method
from fgssl.methods.mocov2 import MoCoV2
from fgssl.methods.settings import UntouchedSettings
from fgssl.methods.synthesized import Synthesized
from fgssl.provenance import code_version, versions
from fgssl.run_folder import Lease, RunFolder
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
    folder = folder or RunFolder(out / "runs" / configs.run_name(config))
    if folder.done(config):
        return folder
    with folder.lease(config) as lease:
        try:
            _complete(config, out, lease)
        except Exception:
            with contextlib.suppress(UserError):  # a full disk must not hide the failure itself
                lease.write("failure.txt", traceback.format_exc())
            raise
        lease.clear_failure()
    return folder


def _complete(config: Config, out: Path, lease: Lease) -> None:
    folder = lease.folder
    accelerator = _accelerator(config)
    start = start_files(config, out)
    shards = _shards(config, out)
    if folder.trained() is None:
        train = ShardedSplit(shards, "train")
        if config.evaluation is not None:
            _measurement(config, accelerator.device).check(train, ShardedSplit(shards, "test"))
        began = time.monotonic()
        if isinstance(config.method, UntouchedSettings):
            lease.write("encoder.safetensors", weights_bytes(start_encoder(config, start)))
            steps, wall_s, metrics = 0, time.monotonic() - began, dict[str, float]()
        else:
            steps, wall_s, metrics = _train(config, accelerator, build_method(config, start), train, lease)
        lease.write("encoder.json", encoder_card(config.encoder))
        lease.write(
            "trained.json",
            {
                "steps": steps,
                "wall_s": wall_s,
                "data_version": train.version,
                "start": {name: file_sha256(file) if file else None for name, file in start.items()},
                "code_version": code_version(),
                "threads": config.resources.threads,
                "device": _device_name(accelerator.device),
                "versions": versions(),
                "metrics": metrics,
            },
        )
        checkpoint.delete_all(folder.checkpoints)
    if config.evaluation is not None and folder.evaluation(config) is None:
        began = time.monotonic()
        encoder = build_encoder(config.encoder)
        load_weights(encoder, folder.encoder)
        measures = _measures(config, encoder, shards, accelerator.device)
        lease.write_evaluation(config, measures | {"wall_s": time.monotonic() - began})


def evaluate_again(config: Config, folder: RunFolder) -> dict[str, float]:
    """Measures of a trained run folder under `config`'s evaluation settings; computed once, kept in the folder."""
    if folder.trained() is None:
        raise UserError(
            f"{folder.path}: its training is not complete; finish it with fgssl.train, or give one of its checkpoints"
        )
    return execute(config, folder.path.parent.parent, folder).evaluation(config) or {}


def evaluate_checkpoint(config: Config, folder: RunFolder, path: Path) -> dict[str, float]:
    """Measures of the encoder in one checkpoint of `folder`; written nowhere."""
    out = folder.path.parent.parent
    shards = _shards(config, out)
    accelerator = _accelerator(config)
    _, state = checkpoint.read(path, _checkpoint_fingerprint(config, ShardedSplit(shards, "train")))
    method = build_method(config, start_files(config, out))
    method.load_state_dict(state["method"])
    return _measures(config, method.encoder, shards, accelerator.device)


def _measures(config: Config, encoder: nn.Module, shards: Path, device: torch.device) -> dict[str, float]:
    measure = _measurement(config, device)
    encoder.to(device).to(memory_format=torch.channels_last)
    return measure(encoder, ShardedSplit(shards, "train"), ShardedSplit(shards, "test"))


def _measurement(config: Config, device: torch.device) -> Measurement:
    assert config.evaluation is not None
    return Measurement(config.evaluation, config.views, config.seed, device, config.resources.loader_threads)


def _shards(config: Config, out: Path) -> Path:
    if config.data.dataset == "toy" and config.data.folder is None:
        return ensure_toy(config.data, out / "data")
    return shards_folder(config.data, out / "data")


def start_files(config: Config, out: Path) -> Start:
    """The weights files that `config` starts from; all missing ones in one error."""
    sources = {"encoder": config.start.encoder, "decoder": config.start.decoder}
    files = {name: _start_file(source, name, out) for name, source in sources.items()}
    problems = [
        Problem("config", f"start.{name}", f"{file}: no such weights file; run its stage first or give another path")
        for name, file in files.items()
        if file is not None and not file.is_file()
    ]
    if problems:
        raise SettingsError(problems)
    return files


def _start_file(source: StartSource | None, name: str, out: Path) -> Path | None:
    if source is None:
        return None
    return Path(source.file) if source.file else out / "runs" / str(source.run) / f"{name}.safetensors"


# ------------------------------------------------------------------------------------------ training


def _train(
    config: Config, accelerator: Accelerator, method: Method, train: ShardedSplit, lease: Lease
) -> tuple[int, float, dict[str, float]]:
    """(steps, wall_s, last metrics); leaves the exported networks in the run folder."""
    training, resources, folder = config.training, config.resources, lease.folder
    if len(train) < training.global_batch_size:
        raise DataError(
            f"training.global_batch_size {training.global_batch_size} exceeds the {len(train)} training images of "
            f"{train.dataset}: not one whole batch; lower it"
        )
    _warn_of_stale_queue(method, train)
    method.to(accelerator.device).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(training.optimizer, method.trained_parameters())
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
        checkpoint_every_steps=resources.checkpoint_every_steps,
    )
    fingerprint = _checkpoint_fingerprint(config, train)
    if found := checkpoint.latest(folder.checkpoints, fingerprint):
        trainer.resume(*found)
    elif isinstance(method, Synthesized):
        method.train()
        method.fill_bank(_bank_originals(config, method, train, accelerator.device))

    def batches(steps: range) -> Iterator[RawBatch]:
        return training_batches(
            train,
            config.views,
            num_views=method.num_views,
            with_original=method.needs_original,
            seed=config.seed,
            steps=steps,
            global_batch_size=training.global_batch_size,
            threads=resources.loader_threads,
        )

    def save(state: dict[str, object]) -> None:
        checkpoint.save(folder.checkpoints, trainer.step, state, fingerprint, lease, resources.keep_checkpoints)

    title = f"{config.method.name} seed {config.seed}"
    with (
        Interruption() as interruption,
        Reporter(lease, title, trainer.step, trainer.total_steps, training.global_batch_size) as reporter,
    ):
        trainer.train(batches, reporter, save, interruption)
    for name, network in method.exports().items():
        lease.write(f"{name}.safetensors", weights_bytes(network))
    return trainer.step, trainer.wall_s, reporter.last


def _checkpoint_fingerprint(config: Config, train: ShardedSplit) -> str:
    """The data counts too: a checkpoint of other images must not be continued."""
    return f"{configs.training_fingerprint(config)} data {train.version}"


def _bank_originals(
    config: Config, method: Synthesized, train: ShardedSplit, device: torch.device
) -> Iterator[torch.Tensor]:
    """Resized images, (group, C, H, W) each, of a seeded choice of as many as the bank holds (or the set has)."""
    group = config.encoder.batch_norm_group_size
    number = min(len(method.bank), len(train)) // group * group
    rows = randomness.permutation(config.seed, "bank", length=len(train))[:number]
    for raw in original_batches(train, config.views, rows, group, config.resources.loader_threads):
        yield colour.normalized(colour.to_unit(torch.from_numpy(raw.images[:, 0]).to(device)), config.views)


def _warn_of_stale_queue(method: Method, train: ShardedSplit) -> None:
    base = method.base if isinstance(method, Synthesized) else method
    if isinstance(base, MoCoV2) and len(base.queue) > len(train):
        warnings.warn(
            f"queue_size {len(base.queue)} exceeds the {len(train)} training images: the queue holds about "
            f"{len(base.queue) / len(train):.0f} stale keys of every image, its own among its negatives",
            stacklevel=2,
        )


# ------------------------------------------------------------------------------------------- machine


def _accelerator(config: Config) -> Accelerator:
    resources = config.resources
    gpu = torch.cuda.is_available()
    if resources.device == "cuda" and not gpu:
        raise UserError("resources.device is cuda, but torch sees no GPU here; take `auto` or `cpu`")
    if resources.device == "auto" and not gpu and shutil.which("nvidia-smi"):
        print("WARNING: nvidia-smi is here, but torch sees no GPU: this run uses the CPU", file=sys.stderr)
    if resources.device == "cpu" and gpu:
        print("WARNING: a GPU is here and resources.device is cpu: this run does not use it", file=sys.stderr)
    torch.set_num_threads(resources.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return Accelerator(
        cpu=resources.device == "cpu" or not gpu,
        mixed_precision="bf16" if config.training.precision == "bf16" else "no",
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
