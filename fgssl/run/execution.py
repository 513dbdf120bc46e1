"""One config -> one run folder: train (or resume), export, evaluate. Started again, it does only what is missing."""

import contextlib
import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fgssl import device as devices
from fgssl import randomness
from fgssl.collectives import World, peer_lost
from fgssl.data.loader import RawBatch, original_batches, training_batches
from fgssl.data.sampling import steps_per_epoch
from fgssl.data.shards import ShardedSplit
from fgssl.encoders.build import build_encoder
from fgssl.encoders.checkpointing import checkpoint_activations
from fgssl.encoders.freezing import train_unfrozen
from fgssl.encoders.weights import encoder_card, file_sha256, load_weights, read_weights, weights_bytes
from fgssl.errors import DataError, Problem, SettingsError, UserError
from fgssl.evaluation.measure import Measurement
from fgssl.interruption import Interrupted, Interruption, stop_leaving
from fgssl.methods.build import RANDOM_START, Start, build_method, start_encoder
from fgssl.methods.method import Method
from fgssl.processes import ALONE, Processes
from fgssl.settings import config as configs
from fgssl.settings.config import Config
from fgssl.settings.methods import StartEncoderSettings
from fgssl.store.location import ensure_toy, shards_folder
from fgssl.store.manifest import MANIFEST, Manifest
from fgssl.store.provenance import attempt, code_version
from fgssl.store.requirements import cautions, unmet
from fgssl.store.run_folder import Generation, Lease, RunFolder, start_file
from fgssl.training import checkpoint
from fgssl.training.engines.build import build_engine
from fgssl.training.reporter import Reporter, Silence
from fgssl.training.trainer import Listener, Trainer
from fgssl.views import color

_VISIBLE_WITHIN_S = 60.0


def execute(
    config: Config,
    out: Path,
    folder: RunFolder | None = None,
    processes: Processes = ALONE,
    last_step: int | None = None,
    generation: Generation | None = None,
) -> RunFolder:
    """Make the run folder of `config` complete, in `out`/runs unless `folder` is given; returns it.

    With several processes, all call it; the first one writes, and evaluates when the others have left. Training leaves
    after `last_step` as if told to. An attempt of a newer `generation` takes over from an older one. Raises `UserError`
    for what a user can mend, `Interrupted` when told to stop (a checkpoint is saved then). The traceback of a failure
    lies in failure.txt.
    """
    code_version()  # of the code that runs, before anyone edits a file
    folder = folder or RunFolder(out / "runs" / configs.run_name(config))
    if processes.world_size == 1 and folder.done(config):
        _require_same_data(config, folder, out)
        return folder
    world = devices.world(config.resources, config.training, processes)
    try:
        if world.rank == 0:
            _lead(config, out, folder, world, last_step, generation)
        else:
            _follow(config, out, folder, world, last_step)
    except RuntimeError as error:
        if (lost := peer_lost(error, world)) is None:
            raise
        raise lost from error
    finally:
        gc.collect()  # a process makes several runs: the networks of this one must not wait in memory
    return folder


def _lead(
    config: Config,
    out: Path,
    folder: RunFolder,
    world: World,
    last_step: int | None,
    generation: Generation | None,
) -> None:
    with folder.lease(config, generation) as lease:
        if folder.done(config):
            _require_same_data(config, folder, out)
            world.broadcast(None)
            return
        try:
            _complete(config, out, world, lease, last_step)
        except Exception as error:
            stop_leaving()
            text = traceback.format_exc()
            if (lost := peer_lost(error, world)) is not None:
                text = f"{folder.failures_of_others(patience_s=2.0)}{lost}\n\n{text}"  # the cause first
                print(text, file=sys.stderr)
            with contextlib.suppress(UserError):  # a full disk must not hide the failure itself
                lease.write("failure.txt", text)
            if isinstance(error, torch.OutOfMemoryError):
                advice = "lower resources.micro_batch_size (results stay the same up to rounding)"
                raise UserError(f"{folder.path}: the GPU's memory is exhausted; {advice}: {error}") from error
            raise
        lease.clear_failure()


def _follow(config: Config, out: Path, folder: RunFolder, world: World, last_step: int | None) -> None:
    """What all processes but the first do: they read, train, and write nothing but why they failed."""
    data_version = world.broadcast("")
    if not data_version:
        return
    try:
        train = ShardedSplit(_visible(_shards_of(config, out)), "train")
        if train.version != data_version:
            raise DataError(
                f"{train.folder}: process {world.rank} sees version {train.version[:12]}, the first one "
                f"{data_version[:12]}: give all nodes the same shards"
            )
        method = build_method(config, RANDOM_START, _classes(train))
        _train(config, world, method, train, None, last_step)
    except Exception as error:
        stop_leaving()
        if peer_lost(error, world) is None:
            folder.note_failure(world.rank, traceback.format_exc())
        raise


def _complete(config: Config, out: Path, world: World, lease: Lease, last_step: int | None) -> None:
    folder = lease.folder
    shards = _shards(config, out)
    train = ShardedSplit(shards, "train")
    _require(config, train)
    test = None if config.evaluation is None else ShardedSplit(shards, "test")
    if test is not None:
        _measurement(config, world.device).check(train, test)
    if folder.trained() is None:
        _train_and_export(config, out, world, train, lease, last_step)
    else:
        world.broadcast(None)
    checkpoint.delete_all(folder.checkpoints)
    if test is not None and folder.evaluation(config) is None:
        _require_same_data(config, folder, out)
        began = time.monotonic()
        encoder = build_encoder(config.encoder, config.views.image_size)
        load_weights(encoder, folder.encoder)
        classifier = None
        if config.evaluation is not None and config.evaluation.classifier:
            classifier = _linear(folder.path / "classifier.safetensors")
        measures = _measures(config, encoder, classifier, train, test, world.device)
        provenance = {
            "code_version": code_version(),
            "data_version": train.version,
            "device": devices.device_name(world.device),
        }
        lease.write_evaluation(config, measures | {"wall_s": time.monotonic() - began} | provenance)


def evaluate_again(config: Config, folder: RunFolder) -> dict[str, Any]:
    """Measures of a trained run folder under `config`'s evaluation settings; computed once, kept in the folder."""
    if folder.trained() is None:
        raise UserError(
            f"{folder.path}: its training is not complete; finish it with `fgssl train`, or give one of its checkpoints"
        )
    return execute(config, folder.path.parent.parent, folder).evaluation(config) or {}


def evaluate_checkpoint(config: Config, folder: RunFolder, path: Path) -> dict[str, Any]:
    """Measures of the encoder in one checkpoint of `folder`; written nowhere."""
    shards = _shards(config, folder.path.parent.parent)
    train = ShardedSplit(shards, "train")
    _require(config, train)
    test = ShardedSplit(shards, "test")
    device = devices.world(config.resources, config.training).device
    _measurement(config, device).check(train, test)
    found = checkpoint.read(path)
    found.require(configs.training_fingerprint(config), train.version)
    method = build_method(config, RANDOM_START, _classes(train))
    method.load_state_dict(found.state["method"])
    networks = method.exports()
    return _measures(config, networks["encoder"], networks.get("classifier"), train, test, device)


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
    return _shards_of(config, out)


def _shards_of(config: Config, out: Path) -> Path:
    return shards_folder(config.data, out / "data")


def _visible(shards: Path) -> Path:
    """`shards`, once this node sees what another one may just have written (shared file systems keep lists)."""
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while not (shards / MANIFEST).is_file() and time.monotonic() < deadline:
        for parent in (shards.parent.parent, shards.parent, shards):
            if parent.is_dir():
                list(parent.iterdir())  # asks the server again
        time.sleep(0.2)
    return shards


def _require(config: Config, images: ShardedSplit) -> None:
    """Refuse data that lacks what `config` needs."""
    if lacking := unmet(config, images.manifest):
        raise DataError("\n".join(f"{images.folder}: {message}" for message in lacking))


def _require_same_data(config: Config, folder: RunFolder, out: Path) -> None:
    """Refuse other shards than the run was trained on; where there are none any more, nothing can be mixed up."""
    shards = Path(config.data.folder).expanduser() if config.data.folder else _shards_of(config, out)
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


def _train_and_export(
    config: Config, out: Path, world: World, train: ShardedSplit, lease: Lease, last_step: int | None
) -> None:
    """Leave the trained networks and, last of all, trained.json in the run folder."""
    start = start_files(config, out)
    start_sha256 = {name: file_sha256(file) if file else None for name, file in start.items()}
    if isinstance(config.method, StartEncoderSettings):
        world.broadcast(None)  # nothing for the others to do
        lease.write("encoder.safetensors", weights_bytes(start_encoder(config, start)))
        record: dict[str, Any] = {"steps": 0, "wall_s": 0.0, "metrics": {}, "attempts": [_attempt(config, world)]}
    else:
        method = build_method(config, start, _classes(train))
        world.broadcast(train.version)
        trained = _train(config, world, method, train, _Books(lease, start_sha256), last_step)
        assert trained is not None
        record = trained
    lease.write("encoder.json", encoder_card(config.encoder))
    lease.write("trained.json", record | {"data_version": train.version, "start": start_sha256})


def _attempt(config: Config, world: World) -> dict[str, Any]:
    resources = config.resources
    return attempt(world.size, resources.engine, resources.threads, devices.device_name(world.device))


@dataclass(frozen=True)
class _Books:
    """What the one process that writes needs for it."""

    lease: Lease
    start_sha256: dict[str, str | None]


def _train(
    config: Config, world: World, method: Method, train: ShardedSplit, books: _Books | None, last_step: int | None
) -> dict[str, Any] | None:
    """Train `method`, from its newest checkpoint if there is one. With `books`, what to record of it; the networks then
    lie in the run folder."""
    training, resources = config.training, config.resources
    # Kernels round by the layout of weights, and DeepSpeed has one of its own.
    layout = torch.contiguous_format if training.invariant == "exact" else torch.channels_last
    method.to(world.device).to(memory_format=layout)
    if training.precision == "fp64":
        method.double()
    if resources.activation_checkpointing:
        checkpoint_activations(method.encoder)
    world.broadcast_into(method.state_dict().values())  # the first process has read the start weights
    engine = build_engine(method, training, resources, world)
    trainer = Trainer(
        engine=engine,
        world=world,
        settings=training,
        views=config.views,
        seed=config.seed,
        total_steps=training.epochs * steps_per_epoch(len(train), training.global_batch_size),
        shard_size=_shard_size(config, world),
        autocast=devices.autocast(world.device, training.precision),
        log_every_steps=resources.log_every_steps,
        checkpoint_every_s=resources.checkpoint_every_s,
    )
    with contextlib.ExitStack() as stack:
        writer: checkpoint.Writer | None = None
        if books is not None:
            identity = checkpoint.Identity(configs.training_fingerprint(config), train.version, books.start_sha256)
            checkpoints = books.lease.folder.checkpoints
            writer = stack.enter_context(checkpoint.Writer(checkpoints, books.lease, resources.keep_checkpoints))
            found = checkpoint.latest(checkpoints, identity)
            for caution in cautions(config, train.manifest):
                print(f"WARNING: {caution}", file=sys.stderr)
        attempts = [_attempt(config, world)]
        begun = world.broadcast((found.step, found.attempts) if books is not None and found else None)
        if begun is not None:
            step, earlier = begun
            trainer.resume(step, world.broadcast_tensors(found.state if books is not None and found else None))
            if training.invariant == "exact":
                _warn_of_other_bits(earlier, attempts[0])
            attempts = [*(one for one in earlier if one not in attempts), *attempts]
        else:
            train_unfrozen(method)
            dtype = next(method.parameters()).dtype
            method.prepare(
                lambda number: (images.to(dtype) for images in _originals(config, train, number, world.device))
            )

        def save(state: dict[str, Any]) -> None:
            if writer is not None:
                writer.save(checkpoint.Checkpoint(trainer.step, state, identity, attempts))

        listener: Listener = Silence()
        if books is not None:
            title = f"{config.method.name} seed {config.seed}"
            listener = stack.enter_context(
                Reporter(books.lease, title, trainer.step, trainer.total_steps, training.global_batch_size)
            )
        interruption = stack.enter_context(Interruption())
        try:
            trainer.train(_batches(config, method, train, world), listener, save, interruption, last_step)
        except Interrupted:
            _wait_for_all(writer, world)
            raise
    state = engine.state()
    with engine.whole():
        if books is None:
            return None
        for name, network in method.exports().items():
            books.lease.write(f"{name}.safetensors", weights_bytes(network))
    return {
        "steps": trainer.step,
        "wall_s": trainer.wall_s,
        "attempts": attempts,
        "metrics": listener.last,
        "state_sha256": checkpoint.state_sha256({name: state[name] for name in ("method", "optimizer")}),
    }


def _wait_for_all(writer: checkpoint.Writer | None, world: World) -> None:
    """Until the last checkpoint is there: a process that leaves may end those still at work, and the first one writes.

    Where it cannot be written, nobody asks to be started again.
    """
    failure: Exception | None = None
    try:
        if writer is not None:
            writer.wait()
    except Exception as error:
        failure = error
    (failed,) = world.agree_max([failure is not None])
    if failed:
        raise failure or UserError("the first process could not write the last checkpoint; it says why")


def _warn_of_other_bits(earlier: list[dict[str, Any]], now: dict[str, Any]) -> None:
    for name in ("threads", "device", "versions"):
        if others := [attempt[name] for attempt in earlier if attempt[name] != now[name]]:
            print(
                f"WARNING: training.invariant exact promises equal bits for equal {name} only: this attempt has "
                f"{now[name]}, an earlier one had {others[-1]}",
                file=sys.stderr,
            )


def _shard_size(config: Config, world: World) -> int:
    """Images whose networks run at once. Raises a `UserError` where the batch cannot be divided among the processes."""
    training, possible, unit = config.training, configs.possible_processes(config), configs.shard_unit(config)
    exact = training.invariant == "exact"
    if world.size not in possible:
        raise UserError(
            f"training.global_batch_size {training.global_batch_size} in units of {unit} images cannot be divided "
            f"among {world.size} processes{', a power of two under invariant: exact' if exact else ''}: start one of "
            f"{', '.join(map(str, possible))}, or change the batch, encoder.batch_norm_group_size or "
            f"{'training.exact_shard_size' if exact else 'resources.micro_batch_size'}"
        )
    return unit if exact or config.resources.micro_batch_size else training.global_batch_size // world.size


def _batches(
    config: Config, method: Method, train: ShardedSplit, world: World
) -> Callable[[range], Iterator[RawBatch]]:
    """This process's shares of the batches of some steps."""
    training = config.training
    return lambda steps: training_batches(
        train,
        config.views,
        num_views=method.num_views,
        with_original=method.needs_original,
        seed=config.seed,
        steps=steps,
        global_batch_size=training.global_batch_size,
        images_per_class=training.images_per_class,
        threads=config.resources.loader_threads,
        share=world.share(training.global_batch_size),
    )


def _originals(config: Config, train: ShardedSplit, number: int, device: torch.device) -> Iterator[Tensor]:
    """Resized images in BatchNorm groups, (group, C, H, W) each: `number` of them by seed, or all."""
    group = config.encoder.batch_norm_group_size
    whole_groups = min(number, len(train)) // group * group
    rows = randomness.permutation(config.seed, "bank", length=len(train))[:whole_groups]
    for raw in original_batches(train, config.views, rows, group, config.resources.loader_threads):
        yield color.normalized(color.to_unit(torch.from_numpy(raw.images[:, 0]).to(device)), config.views)
