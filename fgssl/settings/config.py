"""YAML + overrides -> one frozen, validated `Config`; its fingerprints.

Every way in (a file, the command line, a sweep's grid) is merged into one plain mapping and validated once.
"""

import dataclasses
import hashlib
import json
import re
import sys
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml

from fgssl.errors import COMMAND_LINE, Problem, SettingsError
from fgssl.settings.data import DataSettings
from fgssl.settings.declare import ChosenByName, NonNegativeInt, settings
from fgssl.settings.decoder import DECODERS, DecoderSettings, LightDecoderSettings
from fgssl.settings.encoder import EncoderSettings
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.settings.methods import METHODS, MethodSettings, MoCoV2Settings
from fgssl.settings.training import ResourceSettings, TrainingSettings
from fgssl.settings.validation import choices, validate
from fgssl.settings.views import ViewSettings

SCHEMA = 1
"""Part of every fingerprint; raised when the meaning of a setting changes."""


@settings
class StartSource:
    """Where weights come from: exactly one of the two."""

    file: str | None = None
    """A weights file (timm or torchvision key names)."""
    run: str | None = None
    """The name of a finished run folder beside this one; in a sweep, `stage` names it."""

    def __post_init__(self) -> None:
        if (self.file is None) == (self.run is None):
            raise ValueError("give exactly one of `file` and `run` (in a sweep also `stage`)")


@settings
class StartSettings:
    encoder: StartSource | None = None
    """Empty: random weights."""
    decoder: StartSource | None = None
    classifier: StartSource | None = None
    """Of `cross_entropy`: the classifier that an earlier stage trained on this encoder."""

    @property
    def sources(self) -> dict[str, StartSource]:
        """Those that are given, by network."""
        sources = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return {network: source for network, source in sources.items() if source is not None}


@settings
class Config:
    """Everything one run needs: it makes one run folder."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings()
    views: ViewSettings = ViewSettings()
    encoder: EncoderSettings = EncoderSettings()
    decoder: Annotated[DecoderSettings, ChosenByName(DECODERS, default="light")] | None = LightDecoderSettings()
    start: StartSettings = StartSettings()
    method: Annotated[MethodSettings, ChosenByName(METHODS)] = dataclasses.field(default_factory=MoCoV2Settings)
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings | None = EvaluationSettings()
    """Empty for stages that other runs start from."""
    resources: ResourceSettings = dataclasses.field(default=ResourceSettings(), metadata={"scientific": False})

    def __post_init__(self) -> None:
        if faults := list(_cross_field_faults(self)):
            raise ValueError("\n".join(faults))


def _cross_field_faults(config: Config) -> Iterator[str]:
    method, size = config.method, config.views.image_size
    if config.evaluation is not None and config.evaluation.classifier and "classifier" not in method.networks:
        yield (
            f"evaluation.classifier: method {method.name} trains no classifier: take one that does, such as "
            "cross_entropy"
        )
    if method.trains:
        yield from _batch_faults(config)
        if config.training.invariant == "exact":
            yield from _exact_faults(config)
        engine, precision = config.resources.engine, config.training.precision
        if engine != "ddp" and precision in ("fp16", "fp64"):
            yield (f"training.precision {precision} runs on resources.engine ddp only, not {engine}: take bf16 or fp32")
    made = config.views.num_recipes
    if made and method.num_views not in (0, made, None):
        yield (
            f"method {method.name} takes {method.num_views} view{'s' * (method.num_views != 1)}, but views.recipes "
            f"makes {made}: change the recipes or their counts, or give `recipes: []` to make all views alike"
        )
    yield from method.faults(config)
    if "decoder" in method.networks:
        if config.decoder is None:
            yield f"decoder is empty, but method {method.name} needs one: allowed names {', '.join(DECODERS)}"
        elif not config.decoder.makes(size):
            yield f"views.image_size {size}: decoder {config.decoder.name} makes {config.decoder.sizes}"


def _batch_faults(config: Config) -> Iterator[str]:
    training, group, micro = config.training, config.encoder.batch_norm_group_size, config.resources.micro_batch_size
    batch, balanced = training.global_batch_size, training.images_per_class
    if batch % group:
        yield (
            f"training.global_batch_size {batch} is no multiple of encoder.batch_norm_group_size {group}: change either"
        )
    if micro is not None and (batch % micro or micro % group):
        yield (
            f"resources.micro_batch_size {micro} must divide training.global_batch_size {batch} "
            f"and be a multiple of encoder.batch_norm_group_size {group}"
        )
    if balanced is not None and batch % balanced:
        yield (
            f"training.global_batch_size {batch} is no multiple of training.images_per_class {balanced}: change either"
        )


def _exact_faults(config: Config) -> Iterator[str]:
    """Yield an error for each setting that keeps results from being equal for any number of processes."""
    training, resources, group = config.training, config.resources, config.encoder.batch_norm_group_size
    shard, batch = training.exact_shard_size or group, training.global_batch_size
    if shard % group:
        yield (
            f"training.exact_shard_size {shard} is no multiple of encoder.batch_norm_group_size {group}: change either"
        )
    if batch % shard or (batch // shard).bit_count() != 1:
        yield (
            f"training.invariant exact adds up a power of two of shards, but training.global_batch_size {batch} is "
            f"no power of two times {shard} images (exact_shard_size, or else encoder.batch_norm_group_size)"
        )
    if resources.micro_batch_size is not None:
        yield (
            "resources.micro_batch_size has no place beside training.invariant exact: training.exact_shard_size "
            "says how many images are in memory at once"
        )
    if training.precision == "fp16":
        yield (
            "training.precision fp16 scales the gradient by its history, training.invariant exact does not know "
            "that: take bf16"
        )
    if resources.engine == "zero3":
        yield (
            "resources.engine zero3 adds up gradients in an order of its own: training.invariant exact runs on "
            "ddp, zero0, zero1 and zero2"
        )


def shard_unit(config: Config) -> int:
    """Images that no number of processes divides: a micro-batch, or the shard of `invariant: exact`."""
    group = config.encoder.batch_norm_group_size
    if config.training.invariant == "exact":
        return config.training.exact_shard_size or group
    return config.resources.micro_batch_size or group


def possible_processes(config: Config) -> list[int]:
    """The numbers of processes that can share a batch, ascending."""
    units = config.training.global_batch_size // shard_unit(config)
    exact = config.training.invariant == "exact"
    return [size for size in range(1, units + 1) if units % size == 0 and (size.bit_count() == 1 or not exact)]


CHOICES: Collection[tuple[str, ...]] = frozenset(choices(Config))
"""Paths of the settings whose `name` chooses their class: method, decoder, training.optimizer and what lies in them."""


# ------------------------------------------------------------------------------------------------ in


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: the 1.1 that PyYAML reads takes `1e-3` for a string, and `4:00:00` for 14400."""


class _Dumper(yaml.SafeDumper):
    """Quotes the strings that `_Loader` would take for floats."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )
for _first in "-+0123456789":  # before the resolver of integers, which has base 60
    _clock = re.compile(r"[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?$")
    _Loader.yaml_implicit_resolvers[_first].insert(0, ("tag:yaml.org,2002:str", _clock))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; a `SettingsError` that names the file otherwise."""
    try:
        content = yaml.load(path.read_text(), _Loader)
    except FileNotFoundError:
        raise SettingsError([Problem(str(path), "", "no such file")]) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError([Problem(str(path), "", f"cannot be read as YAML: {error}")]) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError([Problem(str(path), "", f"must hold `key: value` pairs, not {type(content).__name__}")])
    return content


def merge(
    below: Mapping[str, Any], above: Mapping[str, Any], choices: Collection[tuple[str, ...]] = CHOICES
) -> dict[str, Any]:
    """Deep merge of (partial) configs; `above` wins.

    Where they choose another kind by `name`, nothing of `below` is kept; `choices` are the paths where that can be, in
    which `*` stands for any key.
    """
    if () in choices and "name" in below and "name" in above and below["name"] != above["name"]:
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(old, value, [path[1:] for path in choices if path and path[0] in (key, "*")])
        else:
            merged[key] = value
    return merged


def override(
    below: Mapping[str, Any], above: Mapping[str, Any], choices: Collection[tuple[str, ...]] = CHOICES
) -> dict[str, Any]:
    """`merge` of what the command line says; tells on stderr which settings of `below` another `name` drops."""
    merged = merge(below, above, choices)
    kept = leaves(merged)
    if dropped := [key for key in leaves(below) if not overlaps(key, kept)]:
        names = " and ".join(key for key in leaves(above) if key.rpartition(".")[2] == "name")
        print(f"WARNING: command line: another {names} drops these settings: {', '.join(dropped)}", file=sys.stderr)
    return merged


def leaves(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """All values that are no mappings, or empty ones, by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        inner = leaves(value) if isinstance(value, Mapping) else {}
        found |= {f"{key}.{leaf}": held for leaf, held in inner.items()} or {str(key): value}
    return found


def overlaps(key: str, others: Iterable[str]) -> bool:
    """Whether the dotted key is one of `others`, lies in one or holds one."""
    return any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in others)


def nested(dotted_key: str, value: Any) -> dict[str, Any]:
    """`nested("a.b", 1)` is `{"a": {"b": 1}}`."""
    for part in reversed(dotted_key.split(".")):
        value = {part: value}
    return typing.cast(dict[str, Any], value)


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1", ...]` -> a mapping of dotted keys to YAML values, in order."""
    parsed, problems = {}, []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key):
            problems.append(Problem(COMMAND_LINE, override, "an override has the form key.path=value"))
            continue
        try:
            parsed[key] = yaml.load(text, _Loader)
        except yaml.YAMLError as error:
            problems.append(Problem(COMMAND_LINE, key, f"{text!r} is no YAML value: {error}"))
    if problems:
        raise SettingsError(problems)
    return parsed


def parse(mapping: Mapping[str, Any], source: str) -> Config:
    """Validate a plain mapping; every error at once, each with its dotted key. `source` is named in them."""
    return canonical(validate(mapping, Config, source))


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The config in a file, with overrides; a faulty key is said to be of the command line where it was given there."""
    mapping = read_yaml(path)
    if "arms" in mapping or "presets" in mapping:
        raise SettingsError([Problem(str(path), "", f"no run's config but a sweep: fgssl sweep {path}")])
    given = parse_overrides(overrides)
    for key, value in given.items():
        mapping = override(mapping, nested(key, value))
    try:
        return parse(mapping, str(path))
    except SettingsError as error:
        problems = (
            dataclasses.replace(problem, source=COMMAND_LINE) if overlaps(problem.key, given) else problem
            for problem in error.problems
        )
        raise SettingsError(list(problems)) from None


def canonical(config: Config) -> Config:
    """One config for one meaning, so that equal runs share a folder.

    `variant: none` is the base method; what a method does not use is emptied.
    """
    method = config.method.canonical()
    decoder = config.decoder if "decoder" in method.networks else None
    unused = [network for network in config.start.sources if network not in method.networks]
    start = dataclasses.replace(config.start, **dict.fromkeys(unused))
    views = config.views if method.num_views != 0 else dataclasses.replace(config.views, recipes=())
    training = config.training
    if training.invariant == "close":
        training = dataclasses.replace(training, exact_shard_size=None)
    frozen = tuple(sorted(set(config.encoder.frozen))) if method.trains else ()
    encoder = dataclasses.replace(config.encoder, frozen=frozen)
    return dataclasses.replace(
        config, views=views, encoder=encoder, method=method, start=start, decoder=decoder, training=training
    )


# ------------------------------------------------------------------------------------------------ out


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain values, as YAML holds them."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(config)), parse_constant=float))


def to_yaml(config: Any) -> str:
    return yaml.dump(to_mapping(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def scientific(config: Any) -> Any:
    """The settings that can change a result, as a plain mapping."""
    if isinstance(config, tuple):
        return [scientific(item) for item in config]
    if not dataclasses.is_dataclass(config):
        return config
    return {
        field.name: scientific(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.metadata.get("scientific", True)
    }


def _hash(content: Any) -> str:
    text = json.dumps([SCHEMA, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def training_fingerprint(config: Config) -> str:
    """Hash of what decides the trained weights; names the run folder. Evaluation can change without training again."""
    content = scientific(config)
    for source in content["start"].values():
        if source is not None and source["file"] is not None:
            # A file is known by its content, whose hash the run records; its path may be written in many ways.
            source["file"] = "file"
    del content["evaluation"]
    if not config.method.trains:
        del content["training"]
    if config.data.dataset != "toy":
        del content["data"]["toy"]
    return _hash(content)


def evaluation_fingerprint(config: Config) -> str:
    """Hash of the evaluation's settings; names the result file inside the run folder."""
    return _hash(scientific(config.evaluation))


def run_name(config: Config) -> str:
    """Name of the run folder: the method, the seed, the fingerprint."""
    return f"{config.method.name}-seed{config.seed}-{training_fingerprint(config)}"
