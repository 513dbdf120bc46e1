"""YAML + overrides -> one frozen, validated `Config`; its fingerprints; its errors.

Every way in (a file, the command line, a sweep's grid) is merged into one plain mapping and validated once.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter, ValidationError

from fgssl.data.settings import DataSettings
from fgssl.decoders.settings import DecoderSettings, LightDecoderSettings, MirroredResNetDecoderSettings
from fgssl.encoders.settings import EncoderSettings
from fgssl.errors import Problem, SettingsError
from fgssl.evaluation.settings import EvaluationSettings
from fgssl.methods.settings import (
    DecoderPretrainingSettings,
    MethodSettings,
    MoCoV2Settings,
    SynthesizedSettings,
    UntouchedSettings,
)
from fgssl.settings import NonNegativeInt, settings
from fgssl.training.settings import ResourceSettings, TrainingSettings
from fgssl.views.settings import ViewSettings

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


@settings
class Config:
    """Everything one run needs: it makes one run folder."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings()
    views: ViewSettings = ViewSettings()
    encoder: EncoderSettings = EncoderSettings()
    decoder: DecoderSettings | None = LightDecoderSettings()
    start: StartSettings = StartSettings()
    method: MethodSettings = dataclasses.field(default_factory=MoCoV2Settings)
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings | None = EvaluationSettings()
    """Empty for stages that other runs start from."""
    resources: ResourceSettings = dataclasses.field(default=ResourceSettings(), metadata={"scientific": False})

    def __post_init__(self) -> None:
        if faults := _cross_field_faults(self):
            raise ValueError("\n".join(faults))


def _cross_field_faults(config: Config) -> list[str]:
    method, training = config.method, config.training
    faults: list[str] = []
    if isinstance(method, UntouchedSettings):
        return faults
    batch, group, micro = (
        training.global_batch_size,
        config.encoder.batch_norm_group_size,
        config.resources.micro_batch_size,
    )
    if batch % group:
        faults.append(
            f"training.global_batch_size {batch} is no multiple of encoder.batch_norm_group_size {group}: change either"
        )
    if micro is not None and (batch % micro or micro % group):
        faults.append(
            f"resources.micro_batch_size {micro} must divide training.global_batch_size {batch} "
            f"and be a multiple of encoder.batch_norm_group_size {group}"
        )
    base = method.base if isinstance(method, SynthesizedSettings) else method
    if isinstance(base, MoCoV2Settings) and base.queue_size % batch:
        faults.append(
            f"queue_size {base.queue_size} is no multiple of training.global_batch_size {batch}: "
            f"take {max(1, round(base.queue_size / batch)) * batch}"
        )
    if isinstance(method, SynthesizedSettings) and method.bank_size < group:
        faults.append(
            f"method.bank_size {method.bank_size} is smaller than encoder.batch_norm_group_size {group}: "
            "the bank is filled a group at a time"
        )
    if isinstance(method, DecoderPretrainingSettings | SynthesizedSettings):
        size = config.views.image_size
        if config.decoder is None:
            faults.append(
                f"decoder is empty, but method {method.name} needs one: allowed names light, mirrored_resnet50"
            )
        elif isinstance(config.decoder, LightDecoderSettings) and (size < 8 or math.log2(size / 4) % 1):
            faults.append(f"views.image_size {size}: decoder light makes 8, 16, 32, 64, ... pixels")
        elif isinstance(config.decoder, MirroredResNetDecoderSettings) and size % 32:
            faults.append(f"views.image_size {size}: decoder mirrored_resnet50 makes multiples of 32 pixels")
    return faults


# ------------------------------------------------------------------------------------------------ in


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; a `SettingsError` that names the file otherwise."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise SettingsError([Problem(str(path), "", "no such file")]) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError([Problem(str(path), "", f"cannot be read as YAML: {error}")]) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError([Problem(str(path), "", f"must hold `key: value` pairs, not {type(content).__name__}")])
    return content


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge; `above` wins. Where both hold another `name`, the choice changed and nothing of `below` is kept."""
    if "name" in below and "name" in above and below["name"] != above["name"]:
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


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
            problems.append(Problem("command line", override, "an override has the form key.path=value"))
            continue
        try:
            parsed[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            problems.append(Problem("command line", key, f"{text!r} is no YAML value: {error}"))
    if problems:
        raise SettingsError(problems)
    return parsed


def parse(mapping: Mapping[str, Any], source: str) -> Config:
    """Validate a plain mapping; every error at once, each with its dotted key. `source` is named in them."""
    return canonical(validate(mapping, Config, source))


T = typing.TypeVar("T")


def validate(mapping: Mapping[str, Any], kind: type[T], source: str) -> T:
    """`mapping` as an instance of the settings class `kind`; raises a `SettingsError` with all problems."""
    try:
        return _adapter(kind).validate_python(_without_yaml_float_trap(mapping))
    except ValidationError as error:
        raise SettingsError(_unique(_problems(error, kind, source))) from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    mapping = read_yaml(path)
    for key, value in parse_overrides(overrides).items():
        mapping = merge(mapping, nested(key, value))
    return parse(mapping, str(path))


def canonical(config: Config) -> Config:
    """One config for one meaning, so that equal runs share a folder.

    `variant: none` is the base method; what a method does not use is emptied.
    """
    method, start, decoder = config.method, config.start, config.decoder
    if isinstance(method, SynthesizedSettings) and method.noise.variant == "none":
        method = method.base
    if not isinstance(method, SynthesizedSettings | DecoderPretrainingSettings):
        decoder, start = None, dataclasses.replace(start, decoder=None)
    return dataclasses.replace(config, method=method, start=start, decoder=decoder)


def _without_yaml_float_trap(value: Any) -> Any:
    """YAML 1.1 reads `1e-3` as a string; the settings mean the number."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _without_yaml_float_trap(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_yaml_float_trap(item) for item in value]
    return value


# ------------------------------------------------------------------------------------------------ out


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain values, as YAML holds them."""
    return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(config)), parse_constant=float))


def to_yaml(config: Any) -> str:
    return yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True, width=120)


def scientific(config: Any) -> Any:
    """The settings that can change a result, as a plain mapping."""
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
    del content["evaluation"]
    if isinstance(config.method, UntouchedSettings):
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


# --------------------------------------------------------------------------------------------- errors


def _alternatives(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [inner for part in typing.get_args(annotation) for inner in _alternatives(part)]
    return [annotation]


def _tag(kind: Any) -> str | None:
    names = [field.default for field in dataclasses.fields(kind) if field.name == "name"]
    return names[0] if names and isinstance(names[0], str) else None


def _resolve(kind: Any, location: Iterable[int | str]) -> tuple[list[str], list[Any]]:
    """The dotted key of pydantic's location (which also names union branches) and the settings classes it lies in."""
    key: list[str] = []
    classes: list[Any] = [kind]
    for part in location:
        fields = {field.name: cls for cls in classes for field in dataclasses.fields(cls)}
        if isinstance(part, int):
            key.append(str(part))
        elif part in fields:
            key.append(part)
            annotation = typing.get_type_hints(fields[part], include_extras=True)[part]
            classes = [option for option in _alternatives(annotation) if dataclasses.is_dataclass(option)]
        elif any(part in (_tag(cls), cls.__name__) for cls in classes):  # a branch of a union, no key of the file
            classes = [cls for cls in classes if part in (_tag(cls), cls.__name__)]
        elif re.fullmatch(r"\w+", part) and part not in ("float", "int", "str", "bool"):
            key.append(part)
            classes = []
    return key, classes


def _problems(error: ValidationError, kind: type, source: str) -> list[Problem]:
    problems = []
    for detail in error.errors(include_url=False):
        location, value = detail["loc"], detail["input"]
        key, _ = _resolve(kind, location)
        dotted = ".".join(key)
        if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            _, owners = _resolve(kind, location[:-1])
            known = sorted({field.name for owner in owners for field in dataclasses.fields(owner)})
            problems.append(Problem(source, dotted, unknown(str(location[-1]), known)))
        elif detail["type"] == "value_error":
            for line in str(detail["ctx"]["error"]).splitlines():
                problems.append(Problem(source, dotted, line))
        elif detail["type"] == "union_tag_invalid":
            tag, allowed = str(detail["ctx"]["tag"]), detail["ctx"]["expected_tags"].replace("'", "").split(", ")
            problems.append(Problem(source, f"{dotted}.name", unknown(tag, allowed, what="name")))
        elif detail["type"] == "union_tag_not_found":
            problems.append(Problem(source, dotted, "`name` is missing: it says which one is meant"))
        elif detail["type"] == "dataclass_type":
            keys = ", ".join(field.name for owner in _resolve(kind, location)[1] for field in dataclasses.fields(owner))
            if problems and problems[-1].key == dotted:  # the other branch of a union has spoken
                problems[-1] = Problem(source, dotted, f"{problems[-1].message}, or a mapping with the keys {keys}")
            else:
                problems.append(
                    Problem(source, dotted, f"{value!r} is not allowed: give a mapping with the keys {keys}")
                )
        else:
            problems.append(Problem(source, dotted, f"{value!r} is not allowed: {detail['msg'].lower()}"))
    return problems


def unknown(name: str, known: Sequence[str], what: str = "key") -> str:
    """The words of an error about an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {what} {name!r}: {hint}allowed: {', '.join(known)}"


def _unique(problems: list[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
