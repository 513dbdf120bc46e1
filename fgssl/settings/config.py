"""Settings of one run: YAML and overrides, merged into one mapping and validated once as a frozen `Config`."""

import dataclasses
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from fgssl.errors import Problem, SettingsError
from fgssl.settings.batch_sizes import fitting_sizes
from fgssl.settings.data import DataSettings
from fgssl.settings.declare import NOT_SCIENTIFIC, ChosenByName, NonNegativeInt, added_later, settings
from fgssl.settings.decoder import DECODERS, DecoderSettings, LightDecoderSettings
from fgssl.settings.encoder import EncoderSettings
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.settings.layers import Layer, Place, locate, nested, parse_overrides, read_yaml
from fgssl.settings.methods import METHODS, MethodSettings, MoCoV2Settings
from fgssl.settings.training import ResourceSettings, TrainingSettings
from fgssl.settings.validation import choices, validate
from fgssl.settings.views import ViewSettings


@settings
class StartSource:
    """Origin of start weights, given by exactly one of `file`, `run` and `stage`."""

    file: str | None = None
    """Path of a weights file with the keys of timm or torchvision, or of a checkpoint of MoCo v2, DINO, solo-learn,
    SupContrast or lightly. Nothing is downloaded. The fingerprint leaves the path out; the run records the hash of the
    file."""
    prefix: str | None = added_later(default=None)
    """Prefix of the network's keys in `file`, or names in it, such as `encoder_k` (MoCo), `student` (DINO) or
    `state_dict_ema` (timm). By default the only network in the file that fits is taken; several that fit are refused.
    A momentum copy counts only if it is named here, except DINO's teacher, which `eval_linear.py` of DINO reads by
    default (Caron et al. 2021)."""
    run: str | None = None
    """Name of a trained run folder beside this one."""
    stage: str | None = added_later(default=None)
    """Name of a stage of the sweep, whose run at the same seed is taken. Only a sweep has stages."""

    def __post_init__(self) -> None:
        given = [key for key in ("file", "run", "stage") if getattr(self, key) is not None]
        if len(given) != 1:
            taken = f", not {', '.join(given)}; null takes one back" if given else ""
            raise ValueError(f"give exactly one of `file`, `run` and (in a sweep) `stage`{taken}")
        if self.prefix is not None and self.file is None:
            raise ValueError("`prefix` is a place in a `file`: omit it, or give the file")


@settings
class StartSettings:
    """Start weights of each network. A network without a source starts from random weights, which `seed` decides."""

    encoder: StartSource | None = None
    """Weights of the encoder. *Synthesized Pairs* starts from a ResNet-50 trained on ImageNet-1k, HCL from ViT and
    Swin."""
    decoder: StartSource | None = None
    """Weights of the decoder, for methods with one. *Synthesized Pairs* pre-trains it (method `decoder`)."""
    classifier: StartSource | None = None
    """Weights of the classifier of `cross_entropy`, from a run that trained one on this encoder."""

    @property
    def sources(self) -> dict[str, StartSource]:
        """Sources that are given, by network."""
        sources = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return {network: source for network, source in sources.items() if source is not None}


@settings
class Config:
    """Settings of one run, which makes one run folder."""

    seed: NonNegativeInt = 0
    """Seed of everything random in the run: weights, order of images, views, noise and splits of the evaluation. A
    sweep gives `seeds` instead."""
    data: DataSettings = DataSettings()
    """Images of the run."""
    views: ViewSettings = ViewSettings()
    """Views of the images."""
    encoder: EncoderSettings = EncoderSettings()
    """Network that is trained."""
    decoder: Annotated[DecoderSettings, ChosenByName(DECODERS, default="light")] | None = LightDecoderSettings()
    """Network that rebuilds images from features, chosen by its `name` (`light` by default). Methods without a decoder
    ignore it."""
    start: StartSettings = StartSettings()
    """Start weights of the networks."""
    method: Annotated[MethodSettings, ChosenByName(METHODS)] = dataclasses.field(default_factory=MoCoV2Settings)
    """Method that trains the encoder, chosen by its `name`. The default, MoCo v2, needs no labels and no decoder."""
    training: TrainingSettings = TrainingSettings()
    """Length, batches, optimization and precision of the training."""
    evaluation: EvaluationSettings | None = EvaluationSettings()
    """Measures of the trained encoder. If empty (null), the run is not measured, as for stages of a sweep."""
    resources: ResourceSettings = dataclasses.field(default=ResourceSettings(), metadata=NOT_SCIENTIFIC)
    """Use of the machine, which enters no fingerprint."""

    def __post_init__(self) -> None:
        if faults := list(_cross_field_faults(self)):
            raise ValueError("\n".join(faults))


def _cross_field_faults(config: Config) -> Iterator[str]:
    """Yield a message for each setting that does not fit the others."""
    method, size = config.method, config.views.image_size
    if config.evaluation is not None and config.evaluation.classifier and "classifier" not in method.networks:
        yield (
            f"evaluation.classifier: method {method.name} trains no classifier: take one that does, such as "
            "cross_entropy"
        )
    if config.evaluation is not None and (pooling := config.evaluation.pooling) not in ("gap", *method.poolings):
        yield (
            f"evaluation.pooling: method {method.name} trains no pooling by {pooling}: take "
            f"{' or '.join(('gap', *method.poolings))}"
        )
    if method.trains:
        if faults := list(_batch_faults(config)):
            advice = fitting_sizes(config)
            yield from (f"{fault}: {advice}" for fault in faults)
        if config.training.invariant == "exact":
            yield from _exact_faults(config)
        engine, precision = config.resources.engine, config.training.precision
        if engine != "ddp" and precision in ("fp16", "fp64"):
            yield f"training.precision {precision} runs on resources.engine ddp only, not {engine}: take bf16 or fp32"
        if engine == "zero3":
            yield from _zero3_faults(config)
        if (crop := config.views.contrastive_crop) is not None and method.num_views != 0:
            yield from crop.faults(config.training.epochs)
    made = config.views.num_recipes
    if method.num_views is None and not made:
        base = getattr(method, "base", method).name
        yield f"method {base} takes its views from views.recipes: give at least one recipe"
    if made and method.num_views not in (0, made, None):
        yield (
            f"method {method.name} takes {method.num_views} view{'s' * (method.num_views != 1)}, but views.recipes "
            f"makes {made}: change the recipes or their counts, or give `recipes: []` to make all views alike"
        )
    yield from method.faults(config)
    if "decoder" in method.networks:
        if config.decoder is None:
            yield f"decoder is empty, but method {method.name} needs one: set decoder.name to {' or '.join(DECODERS)}"
        elif not config.decoder.makes(size):
            yield f"views.image_size {size}: decoder {config.decoder.name} makes {config.decoder.sizes}: take one"


def _batch_faults(config: Config) -> Iterator[str]:
    """Yield a message for each number of images that does not divide the global batch as it must."""
    training, group, micro = config.training, config.encoder.batch_norm_group_size, config.resources.micro_batch_size
    batch, balanced = training.global_batch_size, training.images_per_class
    if batch % group:
        yield f"training.global_batch_size {batch} must be a multiple of encoder.batch_norm_group_size {group}"
    if micro is not None and (batch % micro or micro % group):
        yield (
            f"resources.micro_batch_size {micro} must divide training.global_batch_size {batch} "
            f"and be a multiple of encoder.batch_norm_group_size {group}"
        )
    if balanced is not None and batch % balanced:
        yield f"training.global_batch_size {batch} must be a multiple of training.images_per_class {balanced}"


def _zero3_faults(config: Config) -> Iterator[str]:
    """Yield a message for each setting that encodes images during training, for which zero3 has no whole encoder."""
    crop = config.views.contrastive_crop
    for key, given in (
        ("views.contrastive_crop", crop is not None and crop.boxes == "activations"),
        ("resources.monitor_every_epochs", config.resources.monitor_every_epochs is not None),
    ):
        if given:
            yield (
                f"{key}: encodes images between two steps, but resources.engine zero3 divides the encoder among the "
                "processes: take ddp or zero0 to zero2"
            )


def _exact_faults(config: Config) -> Iterator[str]:
    """Yield a message for each setting under which results would depend on the number of processes."""
    training, resources, group = config.training, config.resources, config.encoder.batch_norm_group_size
    shard, batch = training.exact_shard_size or group, training.global_batch_size
    if shard % group:
        yield f"training.exact_shard_size {shard} must be a multiple of encoder.batch_norm_group_size {group}"
    if batch % shard or (batch // shard).bit_count() != 1:
        yield (
            f"training.invariant exact: training.global_batch_size {batch} must be a power of two times the shard of "
            f"{shard} images (training.exact_shard_size, or else encoder.batch_norm_group_size): "
            f"{fitting_sizes(config)}"
        )
    if resources.micro_batch_size is not None:
        yield (
            "resources.micro_batch_size must be empty under training.invariant exact: training.exact_shard_size sets "
            "the number of images in memory at once"
        )
    if training.precision == "fp16":
        yield (
            "training.precision fp16 scales the loss by its history, which training.invariant exact does not support: "
            "take bf16"
        )
    if resources.engine == "zero3":
        yield (
            "resources.engine zero3 sums gradients in an order of its own: training.invariant exact needs ddp, zero0, "
            "zero1 or zero2"
        )


def shard_unit(config: Config) -> int:
    """Return the images in the smallest share of a batch: a micro-batch, or a shard under `invariant: exact`."""
    group = config.encoder.batch_norm_group_size
    if config.training.invariant == "exact":
        return config.training.exact_shard_size or group
    return config.resources.micro_batch_size or group


def possible_processes(config: Config) -> list[int]:
    """Return the numbers of processes that can share a batch, ascending."""
    units = config.training.global_batch_size // shard_unit(config)
    exact = config.training.invariant == "exact"
    return [size for size in range(1, units + 1) if units % size == 0 and (size.bit_count() == 1 or not exact)]


CHOICES: Collection[tuple[str, ...]] = frozenset(choices(Config))
"""Paths of the settings whose `name` chooses their class: method, decoder, training.optimizer and keys below them."""


def parse(mapping: Mapping[str, object], source: str | Place) -> Config:
    """Validate a mapping; raise a `SettingsError` with every problem.

    `source` is the place of a problem whose key nobody wrote.
    """
    return canonical(validate(mapping, Config, source))


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the config of one run from a file and lay overrides over it; raise a `SettingsError` with every problem."""
    mapping = read_yaml(path)
    if "arms" in mapping or "presets" in mapping:
        raise SettingsError(
            [
                Problem(
                    str(path),
                    "",
                    f"is a sweep, not the config of one run: start it with `fgssl sweep {shlex.quote(str(path))}`",
                )
            ]
        )
    mapping, cautions = _overridden(mapping, overrides)
    config = parse(mapping, str(path))
    for role, source in config.start.sources.items():
        if source.stage is not None:
            place = locate(mapping, ["start", role, "stage"], Place(str(path)))
            raise SettingsError(
                [place.problem(f"{source.stage!r} is not allowed: only a sweep has stages; give `run` or `file`")]
            )
    for caution in cautions:
        print(f"WARNING: {caution}", file=sys.stderr)
    return config


def overridden(mapping: Mapping[str, object], overrides: Sequence[str]) -> Layer:
    """Return the mapping of a config with overrides such as `["a.b=1"]` laid over it one by one; later ones win."""
    for override in overrides:
        mapping = _overridden(mapping, [override])[0]
    return Layer(mapping)


def _overridden(mapping: Mapping[str, object], overrides: Sequence[str]) -> tuple[Layer, list[str]]:
    given, merged, cautions = parse_overrides(overrides), Layer(mapping), list[str]()
    for key, value in given.items():
        merged, dropped = merged.override(nested(key, value, given.places[key]), CHOICES)
        cautions += dropped
    return merged, cautions


def canonical(config: Config) -> Config:
    """Return the one config that stands for all of the same meaning, so that equal runs share a folder.

    `variant: none` becomes the base method, and settings that the method does not use are emptied.
    """
    method = config.method.canonical()
    decoder = config.decoder if "decoder" in method.networks else None
    unused = [network for network in config.start.sources if network not in method.networks]
    start = dataclasses.replace(config.start, **dict.fromkeys(unused))
    views = config.views
    if method.num_views == 0 or (method.num_views is not None and views.alike):
        views = dataclasses.replace(views, recipes=())
    if views.contrastive_crop is not None:
        crop = views.contrastive_crop.canonical() if method.num_views != 0 else None
        views = dataclasses.replace(views, contrastive_crop=crop)
    if views.background is not None:
        background = views.background.canonical() if method.num_views != 0 else None
        views = dataclasses.replace(views, background=background)
    data = config.data
    if data.embedded and views.background is not None:
        data = dataclasses.replace(data, toy=dataclasses.replace(data.toy, draw_masks=True))
    training = config.training
    if training.invariant == "close":
        training = dataclasses.replace(training, exact_shard_size=None)
    frozen = tuple(sorted(set(config.encoder.frozen))) if method.trains else ()
    encoder = dataclasses.replace(config.encoder, frozen=frozen)
    return dataclasses.replace(
        config, data=data, views=views, encoder=encoder, method=method, start=start, decoder=decoder, training=training
    )
