"""Training half of a run: from start weights and shards to networks, checkpoints and trained.json."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fgssl import device as devices
from fgssl import randomness
from fgssl.collectives import World
from fgssl.data.loader import RawBatch, evaluation_batches, original_batches, training_batches
from fgssl.data.sampling import steps_per_epoch
from fgssl.data.shards import ShardedSplit
from fgssl.encoders.checkpointing import checkpoint_activations
from fgssl.encoders.freezing import train_unfrozen
from fgssl.encoders.stand_ins import build_stand_in
from fgssl.encoders.weights import encoder_card, weights_bytes
from fgssl.errors import Problem, SettingsError, UserError
from fgssl.interruption import Interrupted, Interruption
from fgssl.methods.build import RANDOM_START, Start, build_method, start_encoder
from fgssl.methods.method import Method
from fgssl.progress import Track, shown, silent
from fgssl.run.encoding import crop_boxes, monitor
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.store.files import file_sha256
from fgssl.store.lease import Lease
from fgssl.store.provenance import environment
from fgssl.store.records import TRAINED, Environment, Identity, Trained
from fgssl.store.requirements import absent_trackers, cautions
from fgssl.store.run_folder import RunFolder, start_file
from fgssl.training import checkpoint, trackers
from fgssl.training.cpu_convolutions import refuse_wrong_convolutions
from fgssl.training.engines.build import build_engine
from fgssl.training.engines.engine import State
from fgssl.training.reporter import Listener, Reporter
from fgssl.training.trainer import Trainer
from fgssl.views.maker import ViewMaker
from fgssl.views.normalization import normalized, to_unit


def start_files(config: Config, starts: Path) -> Start:
    """Return the weights files that `config` starts from; raise a `SettingsError` that lists all missing ones.

    `starts` is the folder with the run folders of its stages.
    """
    files = RANDOM_START | {name: start_file(source, name, starts) for name, source in config.start.sources.items()}
    problems = [
        Problem("config", f"start.{name}", f"{file}: no such weights file; run its stage first or give another path")
        for name, file in files.items()
        if file is not None and not file.is_file()
    ]
    if problems:
        raise SettingsError(problems)
    return files


def train_and_export(
    config: Config, starts: Path, world: World, train: ShardedSplit, lease: Lease, last_step: int | None
) -> None:
    """Train, and write the networks and, as the last file, trained.json into the run folder."""
    if lacking := absent_trackers(config):
        raise UserError("\n".join(lacking))
    start = start_files(config, starts)
    start_sha256 = {name: file_sha256(file) if file else None for name, file in start.items()}
    with lease.publishing():
        RunFolder(lease.path).features.unlink(missing_ok=True)  # they belong to an encoder that is now replaced
    if not config.method.trains:
        world.broadcast(None)  # the other processes have nothing to do
        lease.write("encoder.safetensors", weights_bytes(_untrained(config, start, train)))
        environments = (_environment(config, world),)
        record = Trained(
            steps=0, wall_s=0.0, metrics={}, environments=environments, data_version=train.version, start=start_sha256
        )
    else:
        method = build_method(config, start, classes_of(train))
        world.broadcast(train.version)
        identity = Identity(fingerprints.training_fingerprint(config), train.version, start_sha256)
        trained = train_share(config, world, method, train, _Owner(lease, identity), last_step)
        assert trained is not None
        record = trained
    if not config.method.stand_in:
        lease.write("encoder.json", encoder_card(config.encoder))
    lease.write_record(TRAINED, record)


def _untrained(config: Config, start: Start, train: ShardedSplit) -> nn.Module:
    """Return the module that is measured by a run that trains nothing."""
    if not config.method.stand_in:
        return start_encoder(config, start)
    module, resources = build_stand_in(config), config.resources
    batches = evaluation_batches(
        train, config.views, batch_size=resources.evaluation_batch_size, threads=resources.loader_threads
    )
    module.prepare(normalized(to_unit(torch.from_numpy(raw.images[0])), config.views) for raw in batches)
    return module


def classes_of(images: ShardedSplit) -> list[int]:
    """Return the number of classes at each level of the labels, finest first."""
    return [len(level.classes) for level in images.levels]


def _environment(config: Config, world: World) -> Environment:
    resources, device = config.resources, devices.device_name(world.device)
    return environment(world.size, resources.engine, resources.threads, device, devices.denormals())


@dataclass(frozen=True)
class _Owner:
    """Lease on the run folder and identity of its checkpoints, held by the one process that writes."""

    lease: Lease
    identity: Identity

    @property
    def checkpoints(self) -> Path:
        return RunFolder(self.lease.path).checkpoints


def train_share(
    config: Config, world: World, method: Method, train: ShardedSplit, owner: _Owner | None, last_step: int | None
) -> Trained | None:
    """Train `method` as one process of `world`, from the newest checkpoint if there is one.

    The process with the `owner` writes the networks into the run folder and returns the record of the training; all
    others return None.
    """
    trainer = make_trainer(config, world, method, len(train))
    trainer.crop_boxes, trainer.monitor = crop_boxes(config, trainer, train), monitor(config, trainer, train)
    with contextlib.ExitStack() as stack:
        environments = _begin(config, world, trainer, train, owner)
        writer: checkpoint.Writer | None = None
        listener = Listener()
        if owner is not None:
            keep = config.resources.keep_checkpoints
            writer = stack.enter_context(checkpoint.Writer(owner.checkpoints, owner.lease, keep))
            title, batch = f"{config.method.name} seed {config.seed}", config.training.global_batch_size
            settings = fingerprints.to_mapping(config)
            curves = stack.enter_context(trackers.started(config.resources.trackers, owner.lease.path, settings))
            reporter = Reporter(owner.lease, title, trainer.step, trainer.total_steps, batch, curves)
            listener = stack.enter_context(reporter)

        def save(state: State) -> None:
            if owner is not None and writer is not None:
                writer.save(checkpoint.Checkpoint(trainer.step, state, owner.identity, environments))

        interruption = stack.enter_context(Interruption())
        try:
            trainer.train(_batches(config, trainer, train), listener, save, interruption, last_step)
        except Interrupted:
            _wait_for_all(writer, world)
            raise
    state = trainer.engine.state()
    with trainer.engine.whole():
        if owner is None:
            return None
        for name, network in method.exports().items():
            owner.lease.write(f"{name}.safetensors", weights_bytes(network))
    return Trained(
        steps=trainer.step,
        wall_s=trainer.wall_s,
        metrics=listener.last,
        environments=environments,
        data_version=train.version,
        start=owner.identity.start_sha256,
        state_sha256=checkpoint.state_sha256(state),
    )


def make_trainer(config: Config, world: World, method: Method, num_images: int) -> Trainer:
    """Return the trainer of `method`, moved to the device with the weights of the first process."""
    training, resources = config.training, config.resources
    # Rounding in kernels depends on the layout of weights, and DeepSpeed keeps weights in a layout of its own.
    layout = torch.contiguous_format if training.invariant == "exact" else torch.channels_last
    method.to(world.device).to(memory_format=layout)
    if training.precision == "fp64":
        method.double()
    if resources.activation_checkpointing:
        checkpoint_activations(method.encoder)
    world.broadcast_into(method.state_dict().values())  # only the first process has read the start weights
    refuse_wrong_convolutions(method, world.device, training.precision)
    shard_size, dtype = _shard_size(config, world), next(method.parameters()).dtype
    groups = method.parameter_groups(training.learning_rate, training.weight_decay)
    return Trainer(
        engine=build_engine(method, groups, training, resources, world),
        groups=groups,
        world=world,
        settings=training,
        views=ViewMaker(config.views, method.num_views, config.seed, shard_size, dtype),
        seed=config.seed,
        total_steps=training.epochs * steps_per_epoch(num_images, training.global_batch_size),
        shard_size=shard_size,
        autocast=devices.autocast(world.device, training.precision),
        log_every_steps=resources.log_every_steps,
        checkpoint_every_s=resources.checkpoint_every_s,
    )


def _begin(
    config: Config, world: World, trainer: Trainer, train: ShardedSplit, owner: _Owner | None
) -> tuple[Environment, ...]:
    """Resume from the first process's newest checkpoint or prepare step 0, and return the environments so far."""
    own = _environment(config, world)
    newest = None
    if owner is not None:
        newest = checkpoint.latest(owner.checkpoints, owner.identity)
        for caution in cautions(config, train.manifest):
            print(f"WARNING: {caution}", file=sys.stderr)
    begun = world.broadcast(None if newest is None else (newest.step, newest.environments))
    if begun is None:
        method = trainer.engine.method
        train_unfrozen(method)
        track = silent if owner is None else shown
        method.prepare(lambda number: _originals(config, train, number, trainer.views, world.device, track))
        return (own,)
    step, earlier = begun
    trainer.resume(step, world.broadcast_tensors(None if newest is None else newest.state))
    if config.training.invariant == "exact":
        _warn_of_other_bits(earlier, own)
    return (*(one for one in earlier if one != own), own)


def _wait_for_all(writer: checkpoint.Writer | None, world: World) -> None:
    """Wait until the first process has written the last checkpoint, since a process that leaves may end the others.

    If it cannot be written, every process raises, so that the run is not requeued.
    """
    failure: Exception | None = None
    try:
        if writer is not None:
            writer.wait()
    except Exception as error:
        failure = error
    (failed,) = world.agree_max([failure is not None])
    if failed:
        raise failure or UserError("the first process could not write the last checkpoint; see its error")


def _warn_of_other_bits(earlier: Sequence[Environment], now: Environment) -> None:
    for name in ("threads", "device", "versions"):
        values = [getattr(environment, name) for environment in earlier]
        if others := [value for value in values if value != getattr(now, name)]:
            print(
                f"WARNING: training.invariant exact promises equal bits for equal {name} only: this process has "
                f"{getattr(now, name)}, an earlier one had {others[-1]}",
                file=sys.stderr,
            )


def _shard_size(config: Config, world: World) -> int:
    """Return the number of images per shard; raise a `UserError` if the batch cannot be divided among the processes."""
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


def _batches(config: Config, trainer: Trainer, train: ShardedSplit) -> Callable[[range], Iterator[RawBatch]]:
    """Return a function from a range of steps to this process's shares of their batches."""
    training, method, world, crops = config.training, trainer.engine.method, trainer.world, trainer.crop_boxes
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
        pinned=world.device.type == "cuda",
        boxes=None if crops is None else crops.boxes,
        masks=None if config.views.background is None else train.mask,
    )


def _originals(
    config: Config, train: ShardedSplit, number: int, views: ViewMaker, device: torch.device, track: Track
) -> Iterator[Tensor]:
    """Yield resized images in BatchNorm groups (group, C, H, W): whole groups of at most `number` images, by seed."""
    group = config.encoder.batch_norm_group_size
    whole_groups = min(number, len(train)) // group * group
    rows = randomness.permutation(config.seed, "bank", length=len(train))[:whole_groups]
    with track(f"prepare {config.method.name}", len(rows), "images") as advance:
        for raw in original_batches(train, config.views, rows, group, config.resources.loader_threads):
            yield views.original(torch.from_numpy(raw.images[0]).to(device))
            advance(len(raw.rows))
